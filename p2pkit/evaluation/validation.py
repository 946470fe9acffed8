"""Validation: metrics of a translator on the val or test set, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor

from p2pkit.contracts import Metric
from p2pkit.data.augmentation import Augmentation, TensorPair
from p2pkit.data.bad_samples import none_usable
from p2pkit.data.samples import Samples, SampleSpec
from p2pkit.errors import DataError, RecipeError, Unavailable, in_one_line
from p2pkit.evaluation.baselines import ClassMeanColour
from p2pkit.settings import BadData, ValidationSettings
from p2pkit.utils.progress import Progress

Translate = Callable[[Tensor], Tensor]
"""Sources [1, Cs, H, W] in [-1, 1] to outputs [1, Ct, H, W]."""
Report = Callable[[Sequence[str]], None]
"""Takes the messages on samples that could not be used and were skipped."""


@dataclass(frozen=True)
class Validation:
    """The validation set of a run, the metrics to take on it, and the baseline to compare with.

    Samples that cannot be used end the run, or are skipped.
    """

    train_set: Samples
    validation_set: Samples
    """The val set or the test set, as the recipe says; empty where there is neither."""
    spec: SampleSpec
    augmentation: Augmentation
    metrics: Sequence[Metric]
    """As they were built: each measurement is taken by copies of them."""
    settings: ValidationSettings
    bad_data: BadData
    origins: Sequence[str]
    """What messages call each of the metrics."""
    encoding: Translate | None = None
    """What the networks see of sources [1, Cs, H, W], and so what the baseline knows colours by."""

    def measure(self, translate: Translate, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of ``translate`` as ``validation/NAME``; {} without a validation set or metrics.

        ``before_each`` is called before each sample is read, and may raise; ``report`` gets those that are skipped.

        Raises:
            DataError: a sample cannot be used and the policy is to stop, or none can.
        """
        return self._measure(translate, "validation", before_each, report)

    def measure_baseline(self, before_each: Callable[[], None], report: Report) -> dict[str, float]:
        """The metrics of the baseline as ``BASELINE/NAME``; {} without one. All else is as for :meth:`measure`."""
        name = self.settings.baseline
        if name == "none" or not self._can_measure():
            return {}
        encode = self.encoding or (lambda source: source)
        pairs = self._tensors(self.train_set, len(self.train_set), "measuring the baseline", before_each, report)
        baseline = ClassMeanColour((encode(source[None])[0], target) for source, target in pairs)
        return self._measure(lambda source: baseline(encode(source)), name, before_each, report)

    def take(self, images: Iterable[TensorPair]) -> dict[str, float]:
        """The numbers that copies of the metrics give for outputs and targets [N, Ct, H, W], by name.

        Raises:
            RecipeError: a metric does not take the images, or does not give numbers by name; it says which.
        """
        metrics, found = deepcopy(list(self.metrics)), {}
        for output, target in images:
            for origin, metric in zip(self.origins, metrics, strict=True):
                try:
                    metric.add(output, target)
                except Exception as error:
                    size = "x".join(map(str, output.shape))
                    raise RecipeError(f"{origin} fails on images {size}: {in_one_line(error)}") from error
        for origin, metric in zip(self.origins, metrics, strict=True):
            try:
                result = metric.result()
            except Exception as error:
                reason = f"result() fails: {in_one_line(error)}; expected numbers by name"
                raise RecipeError(f"{origin}: {reason}") from error
            if not isinstance(result, Mapping) or not {int, float}.issuperset(map(type, result.values())):
                raise RecipeError(
                    f"{origin}: result() gives {result!r}; expected numbers by name, as in {{'mae': 0.1}}"
                )
            for name, value in result.items():
                found[name] = float(value)
        return found

    @property
    def called(self) -> str:
        """What reports call the set that metrics are taken on."""
        split = self.validation_set.split
        return (
            f"{split} set"
            if split == self.settings.split
            else f"{split} set, which serves as {self.settings.split} set too"
        )

    def score(self, metrics: Mapping[str, float]) -> float:
        """The first number of the recipe's first metric, negated where lower is better; NaN is the worst."""
        first = next(iter(metrics.values()))
        if math.isnan(first):
            return -math.inf
        return first if self.metrics[0].higher_is_better else -first

    def _can_measure(self) -> bool:
        return bool(len(self.validation_set) and self.metrics and self.train_set.targets is None)

    def _measure(
        self, translate: Translate, name: str, before_each: Callable[[], None], report: Report
    ) -> dict[str, float]:
        if not self._can_measure():
            return {}
        count = min(len(self.validation_set), self.settings.max_images)
        pairs = self._tensors(self.validation_set, count, f"measuring {name}", before_each, report)
        found = self.take((translate(source[None]).cpu(), target[None]) for source, target in pairs)
        return {f"{name}/{key}": value for key, value in found.items()}

    def _tensors(
        self, pairs: Samples, count: int, title: str, before_each: Callable[[], None], report: Report
    ) -> Iterator[TensorPair]:
        skipped: list[str] = []
        with Progress(title, count, "pair") as progress:
            for index in range(count):
                before_each()
                try:
                    tensors = self.augmentation.test(self.spec.tensors(pairs[index]))
                except DataError as error:
                    if self.bad_data == "stop" or isinstance(error, Unavailable):
                        raise
                    skipped.append(str(error))
                    report(skipped[-1:])
                else:
                    yield tensors
                progress.advance()
        if len(skipped) == count:
            raise none_usable(skipped)
