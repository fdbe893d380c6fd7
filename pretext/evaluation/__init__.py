"""Quality and copies, measured on private text without noise: outside of the guarantee."""
