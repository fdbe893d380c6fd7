"""What the synthetic texts are worth: students that learn from them, and metrics. Its numbers are not covered."""
