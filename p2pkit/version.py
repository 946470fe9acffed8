"""Which p2pkit this is."""

__version__ = "0.1.0"
