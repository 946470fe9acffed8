"""Data sets: from files, from archives, and drawn."""
