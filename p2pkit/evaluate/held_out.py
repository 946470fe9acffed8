"""A translator measured on held-out pairs, beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from p2pkit.contracts import Metric, PairedDataset
from p2pkit.engine.loader import unit_pair
from p2pkit.engine.trainer import Translate
from p2pkit.evaluate.baselines import ClassMeanColour
from p2pkit.images.transforms import PairTransform, TensorPair
from p2pkit.progress import Progress
from p2pkit.settings import EvaluationSettings


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

    def __call__(self, translate: Translate, before_each: Callable[[], None]) -> dict[str, float]:
        """The metrics of ``translate`` as ``held_out/NAME``, the baseline's as ``BASELINE/NAME``; {} without pairs.

        ``before_each`` is called before each pair is read, and may raise.
        """
        if not len(self._held_out) or not self._metrics:
            return {}
        figures = self._measure(translate, "held_out", before_each)
        if self._settings.baseline == "class_mean_colour":
            pairs = self._tensors(self._pairs, len(self._pairs), "measuring the baseline", before_each)
            figures |= self._measure(ClassMeanColour(pairs), self._settings.baseline, before_each)
        return figures

    def _measure(self, translate: Translate, name: str, before_each: Callable[[], None]) -> dict[str, float]:
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
