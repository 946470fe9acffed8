"""Validation: the set that metrics are taken on, the metrics, and which of their numbers decides."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar

from torch import Tensor, nn

from p2pkit.data.augmentation import Augmentation, SampleSpec, Tensors
from p2pkit.data.samples import Samples
from p2pkit.errors import P2PKitError, RecipeError, did_you_mean, in_one_line, reason
from p2pkit.images.lab import Colours
from p2pkit.settings import BadData, ValidationSettings

T = TypeVar("T")

PERCEPTUAL = "lpips"
"""Decides which model is the best, where it is measured and the recipe names no other: distances of pixels prefer blur.
"""


@dataclass(frozen=True)
class Validation:
    """The validation set of a run, the metrics to take on it (evaluation/driver.py does), and the train set.

    Samples that cannot be used end the run, or are skipped.
    """

    train_set: Samples
    validation_set: Samples
    """The val set or the test set, as the recipe says; empty where there is neither."""
    spec: SampleSpec
    augmentation: Augmentation
    metrics: Sequence[Measurement]
    """Each measurement is taken by copies of them."""
    settings: ValidationSettings
    bad_data: BadData
    values: str = ""
    """Which values of the targets' type stand for 0 to 1, as in "0 to 4095 of uint16"; empty for those of 8 bits."""
    encoding: Callable[[Tensor], Tensor] | None = None
    """What the networks see of sources [1, Cs, H, W], and so what the class mean colour knows colours by."""
    higher_is_better: dict[str, bool | None] = field(default_factory=dict)
    """The direction of each number, by its name; known once it has been taken."""
    colours: Colours | None = None
    """How outputs and targets become pictures; None where they are pictures themselves."""

    def picture(self, source: Tensor, image: Tensor) -> Tensor:
        """What metrics and people see of outputs or targets [N, Ct, H, W] beside their sources, all in [-1, 1]."""
        return image if self.colours is None else self.colours.picture(source, image)

    def tensors(self, samples: Samples, index: int) -> tuple[Tensors, str]:
        """A sample of one of the sets as validation sees it, and its key.

        Its mask says how much each pixel counts; one whose target has no value does not, whatever was put there.

        Raises:
            DataError: it cannot be used.
        """
        sample = samples[index]
        return self.augmentation.test(self.spec.tensors(sample, measured=True)), sample.key

    def collect(self, found: dict[str, float], measurement: Measurement, numbers: Mapping[str, float]) -> None:
        """Put the numbers of one of the metrics to those ``found``, and take note of whether higher is better.

        Raises:
            RecipeError: two metrics give numbers of one name.
        """
        for name, value in numbers.items():
            if name in found:
                raise RecipeError(f"{measurement.origin} gives {name!r}, as another metric does; leave one out")
            found[name] = value
            self.higher_is_better[name] = measurement.metric.higher_is_better

    @property
    def called(self) -> str:
        """What reports call the set that metrics are taken on; empty where there is none."""
        if not len(self.validation_set):
            return ""
        split, asked = self.validation_set.split, self.settings.split
        return f"{split} set" if split == asked else f"{split} set, which serves as {asked} set too"

    def deciding(self, names: Iterable[str]) -> str | None:
        """The name of the number, among ``names``, by which a model is the best; None where there are none."""
        known = list(names)
        return self.settings.monitor or (PERCEPTUAL if PERCEPTUAL in known else next(iter(known), None))

    def score(self, metrics: Mapping[str, float], name: str | None = None) -> float:
        """One of the numbers as ``validation/NAME``, negated where lower is better; NaN is the worst.

        It is the one called ``name``, else that of ``validation.monitor``, else LPIPS, else the first of the first
        metric.

        Raises:
            RecipeError: there is none of that name.
        """
        prefix = "validation/"
        taken = [key.removeprefix(prefix) for key in metrics if key.startswith(prefix)]
        name = name or self.deciding(taken) or ""
        self.refuse_unknown(name, taken, "the metric to go by")
        value = metrics[prefix + name]
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

    @property
    def computed_with(self) -> dict[str, dict[str, str]]:
        """What each metric says that its numbers depend on (the hash of a network's weights, say), by its name."""
        found = {}
        for each in self.metrics:
            if with_what := getattr(each.metric, "computed_with", None):
                found[each.name] = dict(with_what)
        return found

    def can_measure(self) -> bool:
        """Whether there is something to measure, and by which."""
        return bool(len(self.validation_set) and self.metrics and self.train_set.targets is None)


@dataclass
class Measurement:
    """One metric (contracts.Metric), and what it says of a series of images, each by itself or all as a set.

    Raises RecipeError, here and in its methods, where it is no such metric or does not take an image.
    """

    origin: str
    """What messages call the metric."""
    name: str
    """What its number is called, if it gives one only."""
    metric: Any
    """It asks no other process, which might not be measuring."""
    over_set: bool = field(init=False)
    """Whether it is of all images as a set, and not the mean of those of each."""
    takes_source: bool = field(init=False)
    """Whether it asks for the sources too, as a parameter ``source``."""

    def __post_init__(self) -> None:
        self.over_set = getattr(self.metric, "over", "images") == "set"
        for name in ("update", "compute", "reset", "higher_is_better"):
            if not hasattr(self.metric, name):
                is_collection = isinstance(self.metric, nn.ModuleDict)
                remedy = "; of a collection register each metric by a name of its own" if is_collection else ""
                raise RecipeError(
                    f"{self.origin} has no {name}; expected torchmetrics' interface: update(output, target), "
                    f"compute(), reset() and higher_is_better{remedy}"
                )
        asked = getattr(self.metric, "features", self.metric.update) if self.over_set else self.metric.update
        self.takes_source = "source" in inspect.signature(asked).parameters
        for each in (self.metric, *getattr(self.metric, "__dict__", {}).values()):
            for module in each.modules() if isinstance(each, nn.Module) else ():
                if hasattr(module, "distributed_available_fn"):
                    # torchmetrics asks this whether there are other processes; without arguments, bool says no
                    vars(module)["distributed_available_fn"] = bool

    def of_image(self, output: Tensor, target: Tensor, source: Tensor | None = None) -> dict[str, float]:
        """The numbers of an output and its target [1, Ct, H, W] in [-1, 1], by name.

        What is beyond that range is cut off, as in files. A metric that asks for it gets the ``source`` too.
        """
        self.metric.reset()
        self._given(self.metric.update, output, target, source)
        return self.compute()

    def features(self, output: Tensor, target: Tensor, source: Tensor | None = None) -> tuple[Tensor, ...]:
        """What a metric over a set is updated with: the images, or what its ``features`` makes of output and target."""
        make: Callable[..., Tensor] | None = getattr(self.metric, "features", None)

        def made(output: Tensor, target: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
            if make is None:
                return output, target, *sources
            return make(output, *sources), make(target, *sources)

        return self._given(made, output, target, source)

    def update(self, *features: Tensor) -> None:
        """Let a metric over a set take in what :meth:`features` has given."""
        try:
            self.metric.update(*features)
        except Exception as error:
            raise RecipeError(f"{self.origin} fails: {reason(error)}") from error

    def compute(self) -> dict[str, float]:
        """What the metric says of what it has taken in, by name."""
        found, expected = dict[str, float](), "expected a number, or numbers by name, as in {'psnr': 30.1}"
        try:
            result = self.metric.compute()
        except Exception as error:
            what = (
                str(error) if isinstance(error, P2PKitError) else f"compute() fails: {in_one_line(error)}; {expected}"
            )
            raise RecipeError(f"{self.origin}: {what}") from error
        for name, value in result.items() if isinstance(result, Mapping) else ((self.name, result),):
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.item()
            if isinstance(value, bool) or not isinstance(value, Real):
                given = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
                raise RecipeError(f"{self.origin}: compute() gives {given} as {name!r}; {expected}")
            found[name] = float(value)
        return found

    def _given(self, take: Callable[..., T], output: Tensor, target: Tensor, source: Tensor | None) -> T:
        """What ``take`` gives for images in [-1, 1], turned to the metric's values; failures name the metric.

        The source is given to a metric that asks for it.
        """
        assert source is not None or not self.takes_source
        images = [output, target, source] if source is not None and self.takes_source else [output, target]
        low, high = getattr(self.metric, "value_range", (0.0, 1.0))
        for place, image in enumerate(images):
            # networks give images channels last, of which torchmetrics may take views
            images[place] = image.contiguous().clamp(-1, 1)
            if (low, high) != (-1.0, 1.0):
                images[place] = (images[place] + 1) / 2 * (high - low) + low
        try:
            return take(*images)
        except Exception as error:
            size = "x".join(map(str, images[0].shape))
            raise RecipeError(f"{self.origin} fails on images {size}: {reason(error)}") from error
