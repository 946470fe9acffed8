"""Which of several processes this one is, for messages that must say so."""

from __future__ import annotations

import os
import platform


def count() -> int:
    """The number of processes of this run, as the launcher gives it; 1 without a launcher."""
    return _number("WORLD_SIZE", 1)


def labelled(message: str) -> str:
    """``message`` with the process and the host in front of every line, where there is more than one process."""
    if count() == 1:
        return message
    # every line, because what several processes print at once gets mixed
    label = f"[process {_number('RANK', 0)} of {count()} on {platform.node()}]"
    return "\n".join(f"{label} {line}".rstrip() for line in message.splitlines())


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default
