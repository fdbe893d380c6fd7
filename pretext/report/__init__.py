"""What people look at, made from a run folder alone: report (`page`), dataset card (`card`), copies (`export`)."""
