"""Validation: metrics of a translator on the val or test set, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import fsum
from numbers import Real
from typing import Any

from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.contracts import Metric
from p2pkit.data.augmentation import Augmentation, TensorPair
from p2pkit.data.bad_samples import none_usable
from p2pkit.data.samples import Samples, SampleSpec
from p2pkit.errors import DataError, RecipeError, Unavailable, did_you_mean, in_one_line
from p2pkit.evaluation.baselines import ClassMeanColour
from p2pkit.settings import BadData, ValidationSettings
from p2pkit.utils.progress import Progress
from p2pkit.utils.seeds import random_states_kept

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
    names: Sequence[str]
    """What the numbers of metrics are called that give one only."""
    origins: Sequence[str]
    """What messages call each of the metrics."""
    encoding: Translate | None = None
    """What the networks see of sources [1, Cs, H, W], and so what the baseline knows colours by."""
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    """The direction of each number, by its name; known once it has been taken."""

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
        if name == "none" or not self.can_measure():
            return {}
        encode = self.encoding or (lambda source: source)
        pairs = self._tensors(self.train_set, len(self.train_set), "measuring the baseline", before_each, report)
        baseline = ClassMeanColour((encode(source[None])[0], target) for source, target in pairs)
        return self._measure(lambda source: baseline(encode(source)), name, before_each, report)

    def take(self, images: Iterable[TensorPair]) -> dict[str, float]:
        """The numbers that copies of the metrics give for outputs and targets [1, Ct, H, W] in [-1, 1], by name.

        Those of single images are averaged. What a metric draws is a function of the image's place alone.

        Raises:
            RecipeError: a metric does not take the images, or does not give numbers; it says which.
        """
        measurements, found = list(map(Measurement, self.origins, self.names, deepcopy(list(self.metrics)))), {}
        with random_states_kept():
            for index, (output, target) in enumerate(images):
                set_seed(index)
                for each in measurements:
                    each.add(output, target)
            for each in measurements:
                if not each.values:
                    each.compute()
                for name, values in each.values.items():
                    if name in found:
                        raise RecipeError(f"{each.origin} gives {name!r}, as another metric does; leave one out")
                    found[name] = fsum(values) / len(values)
                    self.higher_is_better[name] = each.metric.higher_is_better
        return found

    @property
    def called(self) -> str:
        """What reports call the set that metrics are taken on; empty where there is none."""
        if not len(self.validation_set):
            return ""
        split, asked = self.validation_set.split, self.settings.split
        return f"{split} set" if split == asked else f"{split} set, which serves as {asked} set too"

    def score(self, metrics: Mapping[str, float], name: str | None = None) -> float:
        """One of the numbers as ``validation/NAME``, negated where lower is better; NaN is the worst.

        It is the one called ``name``, else that of ``validation.monitor``, else the first of the first metric.

        Raises:
            RecipeError: there is none of that name.
        """
        name = name or self.settings.monitor or next(iter(metrics)).removeprefix("validation/")
        self.refuse_unknown(name, self.higher_is_better, "the metric to go by")
        value = metrics[f"validation/{name}"]
        if math.isnan(value):
            return -math.inf
        return value if self.higher_is_better[name] else -value

    def refuse_unknown(self, name: str, names: Collection[str], asked_by: str) -> None:
        """Refuse a ``name`` that is not among those of the numbers that metrics give.

        Raises:
            RecipeError: it says who asked for it, and which names there are.
        """
        if name not in names:
            known = f"the metrics give: {', '.join(names) or 'none'}"
            raise RecipeError(f"{asked_by}: no metric is called {name!r}{did_you_mean(name, names)}; {known}")

    def can_measure(self) -> bool:
        """Whether there is something to measure, and by which."""
        return bool(len(self.validation_set) and self.metrics and self.train_set.targets is None)

    def _measure(
        self, translate: Translate, name: str, before_each: Callable[[], None], report: Report
    ) -> dict[str, float]:
        if not self.can_measure():
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


@dataclass
class Measurement:
    """One metric (contracts.Metric) over a series of images, each by itself or all as a set.

    Raises RecipeError, here and in its methods, where it is no such metric or does not take an image.
    """

    origin: str
    """What messages call the metric."""
    name: str
    metric: Any
    """It asks no other process, which might not be measuring."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """What it has given so far, by name: a number an image, or one for the set."""

    def __post_init__(self) -> None:
        for name in ("update", "compute", "reset", "higher_is_better"):
            if not hasattr(self.metric, name):
                raise RecipeError(
                    f"{self.origin} has no {name}; expected torchmetrics' interface: update(output, target), "
                    "compute(), reset() and higher_is_better"
                )
        for each in (self.metric, *getattr(self.metric, "__dict__", {}).values()):
            for module in each.modules() if isinstance(each, nn.Module) else ():
                if hasattr(module, "distributed_available_fn"):
                    # torchmetrics asks this whether there are other processes; without arguments, bool says no
                    vars(module)["distributed_available_fn"] = bool

    def add(self, output: Tensor, target: Tensor) -> None:
        """Take in an output and its target [1, Ct, H, W] in [-1, 1]; what is beyond that is cut off, as in files."""
        low, high = getattr(self.metric, "value_range", (0.0, 1.0))
        # networks give images channels last, of which torchmetrics may take views
        output, target = output.contiguous().clamp(-1, 1), target.contiguous().clamp(-1, 1)
        if (low, high) != (-1.0, 1.0):
            output, target = ((image + 1) / 2 * (high - low) + low for image in (output, target))
        alone = getattr(self.metric, "over", "images") != "set"
        try:
            if alone:
                self.metric.reset()
            if not alone and hasattr(self.metric, "features"):
                output, target = self.metric.features(output), self.metric.features(target)
            self.metric.update(output, target)
        except Exception as error:
            size = "x".join(map(str, output.shape))
            raise RecipeError(f"{self.origin} fails on images {size}: {in_one_line(error)}") from error
        if alone:
            self.compute()

    def compute(self) -> None:
        """Add what the metric says of what it has taken in to the values."""
        expected = "expected a number, or numbers by name, as in {'psnr': 30.1}"
        try:
            result = self.metric.compute()
        except Exception as error:
            raise RecipeError(f"{self.origin}: compute() fails: {in_one_line(error)}; {expected}") from error
        for name, value in result.items() if isinstance(result, Mapping) else ((self.name, result),):
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.item()
            if isinstance(value, bool) or not isinstance(value, Real):
                given = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
                raise RecipeError(f"{self.origin}: compute() gives {given} as {name!r}; {expected}")
            self.values.setdefault(name, []).append(float(value))
