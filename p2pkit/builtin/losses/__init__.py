"""Losses: adversarial ones, and distances between pixels and between features."""
