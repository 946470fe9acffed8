"""Metrics: outputs against targets."""
