"""The command line: one module a command, each imported when it is called, torch only inside those that need it."""

from p2pkit.cli.main import main

__all__ = ["main"]
