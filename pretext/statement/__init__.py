"""What was promised, and whether it still holds."""
