"""Losses: adversarial ones and distances between pixels."""
