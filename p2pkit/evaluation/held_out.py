"""A translator measured on held-out pairs, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2pkit.contracts import Metric, PairedDataset
from p2pkit.data.augmentation import PairTransform, TensorPair
from p2pkit.data.bad_samples import none_usable
from p2pkit.errors import DataError, Unavailable
from p2pkit.evaluation.baselines import ClassMeanColour
from p2pkit.settings import BadData, EvaluationSettings, Interval
from p2pkit.training.pair_form import PairForm
from p2pkit.training.parts import Report, Translate
from p2pkit.utils.progress import Progress


@dataclass(frozen=True)
class HeldOut:
    """The held-out pairs of a run, the metrics to take on them, and the baseline to compare with.

    Pairs that cannot be used end the run, or are left out of the figures.
    """

    pairs: PairedDataset
    held_out: PairedDataset
    form: PairForm
    transform: PairTransform
    metrics: Sequence[Callable[[], Metric]]
    settings: EvaluationSettings
    bad_data: BadData
    encoding: Translate | None = None
    """What the networks see of sources [1, Cs, H, W], and so what the baseline tells colours by."""

    @property
    def every(self) -> Interval | None:
        """How often to measure while training; None to do so at the end alone."""
        return self.settings.every

    def figures(self, translate: Translate, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of ``translate`` as ``held_out/NAME``; {} without pairs or metrics.

        ``before_each`` is called before each pair is read, and may raise; ``report`` is told of those left out.

        Raises:
            DataError: a pair cannot be used and the policy is to stop, or none can.
        """
        return self._measure(translate, "held_out", before_each, report)

    def baseline(self, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of the baseline as ``BASELINE/NAME``; {} without one. All else is as for :meth:`figures`."""
        name = self.settings.baseline
        if name == "none" or not self._can_measure():
            return {}
        encode = self.encoding or (lambda source: source)
        pairs = self._tensors(self.pairs, len(self.pairs), "measuring the baseline", before_each, report)
        baseline = ClassMeanColour((encode(source[None])[0], target) for source, target in pairs)
        return self._measure(lambda source: baseline(encode(source)), name, before_each, report)

    def score(self, figures: Mapping[str, float]) -> float:
        """The first figure of the recipe's first metric, negated where lower is better; no number is the worst."""
        first = next(iter(figures.values()))
        if math.isnan(first):
            return -math.inf
        return first if self.metrics[0]().higher_is_better else -first

    def _can_measure(self) -> bool:
        return bool(len(self.held_out) and self.metrics)

    def _measure(
        self, translate: Translate, name: str, before_each: Callable[[], None], report: Report
    ) -> dict[str, float]:
        if not self._can_measure():
            return {}
        metrics = [make() for make in self.metrics]
        count = min(len(self.held_out), self.settings.max_pairs)
        for source, target in self._tensors(self.held_out, count, f"measuring {name}", before_each, report):
            output = translate(source[None]).cpu()
            for metric in metrics:
                metric.add(output, target[None])
        return {f"{name}/{key}": value for metric in metrics for key, value in metric.result().items()}

    def _tensors(
        self, pairs: PairedDataset, count: int, title: str, before_each: Callable[[], None], report: Report
    ) -> Iterator[TensorPair]:
        left_out: list[str] = []
        with Progress(title, count, "pair") as progress:
            for index in range(count):
                before_each()
                try:
                    tensors = self.transform.test(self.form.tensors(pairs[index]))
                except DataError as error:
                    if self.bad_data == "stop" or isinstance(error, Unavailable):
                        raise
                    left_out.append(str(error))
                    report(left_out[-1:])
                else:
                    yield tensors
                progress.advance()
        if len(left_out) == count:
            raise none_usable(left_out)
