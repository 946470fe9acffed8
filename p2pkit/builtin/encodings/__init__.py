"""Encodings: what networks see in place of a source."""
