"""Hostile input of every kind; ``attacks.py`` says how to add some."""
