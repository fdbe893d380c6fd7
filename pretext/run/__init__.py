"""The run folder: its values, its files, its shards and its manifest."""
