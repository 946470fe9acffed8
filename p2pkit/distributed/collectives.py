"""Collectives: what processes share, so that all of them decide alike. With one process nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast

from p2pkit.errors import DataError


def all_gather_text(accelerator: Accelerator, text: str) -> list[str]:
    """What each process passes as ``text``, by rank, on every process."""
    if accelerator.num_processes == 1:
        return [text]
    # as bytes in a tensor: torch's own way of sharing objects pickles them
    own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=accelerator.device)
    lengths = accelerator.gather(torch.tensor([len(own)], device=accelerator.device)).tolist()
    rows = accelerator.gather(F.pad(own, (0, max(lengths) - len(own)))[None]).cpu()
    return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths, strict=True)]


def gather_bytes(accelerator: Accelerator, own: bytes) -> list[bytes]:
    """What each process passes as ``own``, by rank, on the main process; the others get only lengths right."""
    if accelerator.num_processes == 1:
        return [own]
    rank, device = accelerator.process_index, accelerator.device
    lengths = accelerator.gather(torch.tensor([len(own)], device=device)).tolist()
    found = []
    for sender, length in enumerate(lengths):
        # one process after another, so that a device holds no more than one of them
        sent = own if sender == rank else bytes(length)
        if sender and length:
            passed = broadcast(torch.frombuffer(bytearray(sent), dtype=torch.uint8).to(device), from_process=sender)
            sent = passed.cpu().numpy().tobytes() if accelerator.is_main_process else sent
        found.append(sent)
    return found


def broadcast_text(accelerator: Accelerator, text: str) -> str:
    """What the main process passes as ``text``, on every process."""
    return text if accelerator.num_processes == 1 else all_gather_text(accelerator, text)[0]


def all_reduce_max(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Each value's maximum over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    everyone = accelerator.gather(torch.tensor([list(values)], dtype=torch.float32, device=accelerator.device))
    maxima: list[float] = everyone.max(dim=0).values.tolist()
    return maxima


def all_reduce_mean(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """Each value's mean over all processes, which must pass the same names in the same order."""
    if accelerator.num_processes == 1 or not values:
        return dict(values)
    own = torch.tensor([list(values.values())], dtype=torch.float32, device=accelerator.device)
    means = accelerator.gather(own).double().mean(dim=0).tolist()
    return dict(zip(values, means, strict=True))


class SharedDataError(DataError):
    """Bad data that every process knows of, so that all can end in order."""


def on_main_process(accelerator: Accelerator, work: Callable[[], str | None], elsewhere: str = "") -> str:
    """Let the main process alone do ``work``; the text that it gives, on every process.

    Raises:
        DataError: raised by ``work``; on several processes a SharedDataError, on each of them. Its message is
            ``elsewhere``, if that is given, on all but the main one.
    """
    if accelerator.num_processes == 1:
        return work() or ""
    result, message = "", ""
    if accelerator.is_main_process:
        try:
            result = work() or ""
        except DataError as error:
            message = str(error)
    if message := broadcast_text(accelerator, message):
        raise SharedDataError(message if accelerator.is_main_process else elsewhere or message)
    return broadcast_text(accelerator, result)
