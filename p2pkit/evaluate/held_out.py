"""A translator measured on held-out pairs, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from p2pkit.contracts import Metric, PairedDataset
from p2pkit.engine.loader import unit_pair
from p2pkit.engine.parts import Translate
from p2pkit.evaluate.baselines import ClassMeanColour
from p2pkit.images.transforms import PairTransform, TensorPair
from p2pkit.progress import Progress
from p2pkit.settings import EvaluationSettings, Interval


class HeldOut:
    """The held-out pairs of a run, the metrics to take on them, and the baseline to compare with."""

    def __init__(
        self,
        pairs: PairedDataset,
        held_out: PairedDataset,
        transform: PairTransform,
        metrics: Sequence[Callable[[], Metric]],
        settings: EvaluationSettings,
    ) -> None:
        self._pairs, self._held_out, self._transform = pairs, held_out, transform
        self._metrics, self._settings = metrics, settings

    @property
    def every(self) -> Interval | None:
        """How often to measure while training; None to do so at the end alone."""
        return self._settings.every

    def figures(self, translate: Translate, before_each: Callable[[], None]) -> dict[str, float]:
        """The metrics of ``translate`` as ``held_out/NAME``; {} without pairs or metrics.

        ``before_each`` is called before each pair is read, and may raise.
        """
        return self._measure(translate, "held_out", before_each)

    def baseline(self, before_each: Callable[[], None]) -> dict[str, float]:
        """The metrics of the baseline as ``BASELINE/NAME``; {} without one."""
        name = self._settings.baseline
        if name == "none" or not self._can_measure():
            return {}
        pairs = self._tensors(self._pairs, len(self._pairs), "measuring the baseline", before_each)
        return self._measure(ClassMeanColour(pairs), name, before_each)

    def score(self, figures: Mapping[str, float]) -> float:
        """The first figure of the recipe's first metric, negated where lower is better; no number is the worst."""
        first = next(iter(figures.values()))
        if math.isnan(first):
            return -math.inf
        return first if self._metrics[0]().higher_is_better else -first

    def _can_measure(self) -> bool:
        return bool(len(self._held_out) and self._metrics)

    def _measure(self, translate: Translate, name: str, before_each: Callable[[], None]) -> dict[str, float]:
        if not self._can_measure():
            return {}
        metrics = [make() for make in self._metrics]
        count = min(len(self._held_out), self._settings.max_pairs)
        for source, target in self._tensors(self._held_out, count, f"measuring {name}", before_each):
            output = translate(source[None]).cpu()
            for metric in metrics:
                metric.add(output, target[None])
        return {f"{name}/{key}": value for metric in metrics for key, value in metric.result().items()}

    def _tensors(
        self, pairs: PairedDataset, count: int, title: str, before_each: Callable[[], None]
    ) -> Iterator[TensorPair]:
        first = self._pairs[0]
        with Progress(title, count, "pair") as progress:
            for index in range(count):
                before_each()
                yield self._transform.test(unit_pair(pairs[index], first))
                progress.advance()
