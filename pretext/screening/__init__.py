"""Keep a text, or drop it with a reason."""
