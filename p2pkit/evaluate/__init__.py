"""Measuring a translator on held-out pairs."""
