"""What processes tell each other, so that all of them decide alike. With one process nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from p2pkit.errors import DataError


def texts_of_all(accelerator: Accelerator, text: str) -> list[str]:
    """What each process passes as ``text``, by rank, on every process."""
    if accelerator.num_processes == 1:
        return [text]
    # as bytes in a tensor: torch's own way of sharing objects pickles them
    own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=accelerator.device)
    lengths = accelerator.gather(torch.tensor([len(own)], device=accelerator.device)).tolist()
    rows = accelerator.gather(F.pad(own, (0, max(lengths) - len(own)))[None]).cpu()
    return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths, strict=True)]


def from_main_process(accelerator: Accelerator, text: str) -> str:
    """What the main process passes as ``text``, on every process."""
    return texts_of_all(accelerator, text)[0]


def largest(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Each value's maximum over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    everyone = accelerator.gather(torch.tensor([list(values)], dtype=torch.float32, device=accelerator.device))
    maxima: list[float] = everyone.max(dim=0).values.tolist()
    return maxima


class MetByAll(DataError):  # noqa: N818 - named for what it says of the processes
    """Bad data that every process has been told of, so that all can end in order."""


def by_main_process(accelerator: Accelerator, work: Callable[[], None]) -> None:
    """Let the main process alone do ``work``.

    Raises:
        MetByAll: on every process, when ``work`` has raised a DataError.
    """
    met = ""
    if accelerator.is_main_process:
        try:
            work()
        except DataError as error:
            met = str(error)
    if met := from_main_process(accelerator, met):
        raise MetByAll(met)


def means_of_all(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """Each value's mean over all processes, which must pass the same names in the same order."""
    if accelerator.num_processes == 1 or not values:
        return dict(values)
    own = torch.tensor([list(values.values())], dtype=torch.float32, device=accelerator.device)
    means = accelerator.gather(own).double().mean(dim=0).tolist()
    return dict(zip(values, means, strict=True))
