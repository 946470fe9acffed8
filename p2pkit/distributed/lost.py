"""Another process of a run is gone: known from what a collective raises here."""

from __future__ import annotations

import re

import torch

from p2pkit.errors import ProcessLost, first_line

SIGNS = re.compile(r"gloo/transport|(closed|reset) by peer|timed? ?out|ncclRemoteError", re.IGNORECASE)
"""In messages of backends, which have no class of errors for it; gloo's begin with the place in its source."""


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process does not answer, and not that something is wrong here."""
    by_collective = isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
    return by_collective and SIGNS.search(str(error)) is not None


def as_loss(error: BaseException, how_to_resume: str) -> ProcessLost | None:
    """The loss of another process behind ``error``; None for an error of one's own.

    ``how_to_resume`` is the command that resumes from the last checkpoint, empty where there is none.
    """
    if not is_loss(error):
        return None
    # without the place in the source that gloo begins with, and its guesses behind the first sentence
    what = re.sub(r"^\[[^]]*\] ", "", first_line(error)).partition(". ")[0]
    advice = f"\nTo resume from the last checkpoint:\n  {how_to_resume}" if how_to_resume else ""
    return ProcessLost(f"another process has ended or does not answer ({what}); what it has printed says why{advice}")
