"""Methods: who owns the training step."""
