"""The processes of a run watch each other for as long as it lasts, and tell a lost one from an error of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from accelerate import Accelerator

from p2pkit.distributed.collectives import from_main_process
from p2pkit.distributed.heartbeat import Heartbeat, MeetingPoint
from p2pkit.errors import ProcessLost, first_line


@contextmanager
def watched(
    accelerator: Accelerator, report: Callable[[str], None], outcome: Callable[[BaseException], tuple[str, int]]
) -> Iterator[Heartbeat]:
    """Let the processes watch each other in the body; one process has nobody to watch.

    ``outcome`` gives a line and the exit code for what the body raises, to tell the others.

    Raises:
        ProcessLost: a collective has failed because another process is gone.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    heartbeat = Heartbeat(rank, processes, report)
    if processes > 1:
        listening, point = heartbeat.open() if rank == 0 else (None, None)
        told = from_main_process(accelerator, json.dumps(asdict(point)) if point else "")
        heartbeat.join(MeetingPoint(**json.loads(told)), listening)
    try:
        yield heartbeat
    except BaseException as error:
        raised = _loss_behind(error, heartbeat) or error
        why, code = outcome(raised)
        heartbeat.leave(code, f"has ended: {why}")
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
