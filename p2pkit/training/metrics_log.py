"""metrics.jsonl: the mean of each loss term over the steps since the last line; and how progress shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from p2pkit.utils.jsonl import keep_lines
from p2pkit.utils.progress import three_digits

ACCURACIES = ("accuracy_real", "accuracy_fake")
"""What stands beside the terms of a discriminator: which shares of real and fake it takes for what they are."""


@dataclass
class MetricsWindow:
    """Running means of losses and accuracies since the last line. Sums stay on their device until the next."""

    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Take in the terms of one step."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The means so far, over this process's share of the batches."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def clear(self) -> None:
        """Begin anew, after a line has been written."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict[str, Any]:
        """The window as JSON, for a checkpoint; floats survive it exactly."""
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "counts": self.counts}


def drop_lines(file: Path, step: int, splits: Set[str]) -> bool:
    """Remove the lines that a run resumed from ``step`` writes again: later ones and that step's of ``splits``.

    Whether there is a line of that step's validation.
    """

    def stays(values: Mapping[str, Any]) -> bool:
        return not (values["step"] > step or (values["step"] == step and values["split"] in splits))

    kept = keep_lines(file, stays)
    return any(line["step"] == step and line["split"] == "validation" for line in kept)


def short_losses(means: Mapping[str, float]) -> list[str]:
    """Loss terms by ``network/loss`` as a person reads them in passing: ``D 0.69``, ``G 0.76``, ``L1 28.3``.

    ``D`` is the sum of the discriminator's terms, ``G`` that of the generator's adversarial ones: those of a loss that
    the discriminator has a term of too. Other terms of the generator go by the loss's name, in capitals where it is
    short. Those of further networks come last, by the network's name and the loss's.
    """
    adversarial = {f"generator/{name.partition('/')[2]}" for name in means if name.startswith("discriminator/")}
    sums: dict[str, float] = {}
    further: dict[str, float] = {}
    for name, value in means.items():
        network, _, loss = name.partition("/")
        if loss in ACCURACIES:
            continue
        term = loss.upper() if re.fullmatch(r"[^_]{2,3}(_\d+)?", loss) else loss
        if network == "discriminator" or name in adversarial:
            term = network[0].upper()
        elif network != "generator":
            further[f"{network} {term}"] = value
            continue
        sums[term] = sums.get(term, 0.0) + value
    leading = {term: sums.pop(term) for term in ("D", "G") if term in sums}
    return [f"{term} {three_digits(value)}" for term, value in (leading | sums | further).items()]
