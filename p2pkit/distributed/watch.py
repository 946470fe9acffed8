"""The processes of a run watch each other for as long as it lasts, and know a lost one from an error of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from accelerate import Accelerator

from p2pkit.distributed.collectives import broadcast_text
from p2pkit.distributed.heartbeat import Heartbeat, MeetingPoint
from p2pkit.errors import ProcessLost, exit_code_of, first_line
from p2pkit.utils.progress import labelled, print_line


@contextmanager
def watched(accelerator: Accelerator) -> Iterator[Heartbeat]:
    """Let several processes watch each other in the body; what ends one of them is reported to the others.

    Raises:
        ProcessLost: a collective has failed because another process is gone.
    """
    rank = accelerator.process_index
    heartbeat = Heartbeat(rank, accelerator.num_processes, lambda message: print_line(labelled(message)))
    listening, point = heartbeat.open() if rank == 0 else (None, None)
    found = broadcast_text(accelerator, json.dumps(asdict(point)) if point else "")
    heartbeat.join(MeetingPoint(**json.loads(found)), listening)
    try:
        yield heartbeat
    except BaseException as error:
        raised = _loss_behind(error, heartbeat) or error
        heartbeat.leave(exit_code_of(raised), f"has ended: {first_line(raised) or type(raised).__name__}")
        if raised is not error:
            raise raised from error
        raise
    heartbeat.leave(0, "is done")


def _loss_behind(error: BaseException, heartbeat: Heartbeat) -> ProcessLost | None:
    """The loss of another process behind what a collective has raised; None when it is an error of its own."""
    # gloo has no class of errors of its own; its messages begin with the place in its source
    if not isinstance(error, torch.distributed.DistError) and "gloo/transport" not in str(error):
        return None
    loss = heartbeat.loss()
    if loss is None and re.search(r"(closed|reset) by peer|timed? ?out|ncclRemoteError", str(error), re.IGNORECASE):
        why = "the connection to another process broke; what that process has printed says why"
        loss = ProcessLost(f"{why} ({first_line(error)}).{heartbeat.advice()}")
    return loss
