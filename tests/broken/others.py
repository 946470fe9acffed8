"""Metrics, exporters, encodings and signatures that break their contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from p2pkit.contracts import ValueRange
from p2pkit.export.contract import Exportable
from p2pkit.testing import encodings, exporters, metrics, signature
from tests.broken import Broken


class GoodMetric:
    """A metric as it should be."""

    higher_is_better: Any = False

    def __init__(self) -> None:
        self.reset()

    def update(self, output: Tensor, target: Tensor) -> None:
        self.sum += float((output - target).square().sum())
        self.count += output.numel()

    def compute(self) -> Any:
        return self.sum / self.count

    def reset(self) -> None:
        self.sum, self.count = 0.0, 0


class OddDirection(GoodMetric):
    """A metric that names its direction."""

    higher_is_better = "lower"


class NoReset:
    """A metric that cannot begin anew."""

    higher_is_better = False
    update, compute = GoodMetric.update, GoodMetric.compute


class TensorResult(GoodMetric):
    """A metric that gives a number for each channel."""

    def compute(self) -> Any:
        return torch.full((3,), self.sum / self.count)


class WrongDirection(GoodMetric):
    """A metric that takes errors for merits."""

    higher_is_better = True


class LogarithmOfErrors(GoodMetric):
    """A metric that is infinite as soon as one pixel is right."""

    def update(self, output: Tensor, target: Tensor) -> None:
        self.sum += float((output - target).abs().log().sum())
        self.count += output.numel()


class Hoarding(GoodMetric):
    """A metric that keeps what it should forget."""

    def reset(self) -> None:
        if not hasattr(self, "sum"):
            super().reset()


class Shared(GoodMetric):
    """A metric whose instances share what they have seen."""

    seen: ClassVar[list[float]] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        self.seen.append(float((output - target).square().mean()))

    def compute(self) -> Any:
        return {"mse": sum(self.seen)}


class Spending(GoodMetric):
    """A metric over a set that empties the features that it is given."""

    over = "set"

    def features(self, image: Tensor) -> Tensor:
        return image.clone()

    def update(self, output: Tensor, target: Tensor) -> None:
        super().update(output, target)
        output.zero_()


WRITTEN: dict[str, nn.Module] = {}


class GoodExporter:
    """An exporter as it should be, but that its files hold only a name."""

    facts: Any = {"name": "a name"}  # noqa: RUF012

    def write(self, exportable: Exportable, file: Path) -> None:
        WRITTEN[str(len(WRITTEN))] = exportable.network
        file.write_text(str(len(WRITTEN) - 1))

    def load(self, file: Path) -> Callable[..., Tensor]:
        return WRITTEN[file.read_text()]


class NoFacts(GoodExporter):
    """An exporter without facts."""

    facts = None


class TwoFiles(GoodExporter):
    """An exporter that writes weights beside its file."""

    def write(self, exportable: Exportable, file: Path) -> None:
        super().write(exportable, file)
        Path(f"{file}.data").touch()


class OneSize(GoodExporter):
    """An exporter whose network takes one size."""

    def load(self, file: Path) -> Callable[..., Tensor]:
        network = super().load(file)
        return lambda source, *noise: network(source[:, :, :16, :16], *noise)


class Inexact(GoodExporter):
    """An exporter that loses digits."""

    def load(self, file: Path) -> Callable[..., Tensor]:
        network = super().load(file)
        return lambda *inputs: (network(*inputs) * 50).round() / 50


class GoodEncoding(nn.Module):
    """An encoding as it should be: a source, and its negative."""

    resampling = "bicubic"

    def __init__(self, source_channels: int, source_range: ValueRange) -> None:
        super().__init__()
        self.channels = 2 * source_channels

    def forward(self, source: Tensor) -> Tensor:
        return torch.cat([source, -source], dim=1)


class OtherResampling(GoodEncoding):
    """An encoding with a resampling that does not exist."""

    resampling = "area"


class MoreChannels(GoodEncoding):
    """An encoding that gives other channels than it declares."""

    def forward(self, source: Tensor) -> Tensor:
        return torch.cat([source, source, source], dim=1)


class TooLarge(GoodEncoding):
    """An encoding beyond [-1, 1]."""

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source) * 255


class OfTheBatch(GoodEncoding):
    """An encoding by the mean of a batch."""

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source - source.mean()) / 2


class Noisy(GoodEncoding):
    """An encoding with noise in training."""

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(torch.where(torch.rand(source.shape[1:]) < 0.5, source, 0 * source))


class OfTheMode(GoodEncoding):
    """An encoding that is another one in training."""

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source / 2 if self.training else source)


class GlaringPicture(GoodEncoding):
    """An encoding whose pictures are beyond [-1, 1]."""

    def picture(self, source: Tensor) -> Tensor:
        return 2 * source[:, :1].expand(-1, 3, -1, -1)


class GreyPicture(GoodEncoding):
    """An encoding whose pictures are grey."""

    def picture(self, source: Tensor) -> Tensor:
        return source[:, :1]


class HalfClasses(GoodEncoding):
    """An encoding of label maps with classes between classes."""

    classes, void = 4, None

    def class_numbers(self, source: Tensor) -> Tensor:
        return source[:, 0] / 2


class UncountedClasses(GoodEncoding):
    """An encoding of label maps that does not say how many classes there are."""

    void = None

    def class_numbers(self, source: Tensor) -> Tensor:
        return source[:, 0].round()


class Unannotated(GoodMetric):
    """A metric with a parameter of no type."""

    def __init__(self, border) -> None:  # type: ignore[no-untyped-def]
        super().__init__()


class Required(GoodMetric):
    """A metric with a parameter that it needs."""

    def __init__(self, border: int) -> None:
        super().__init__()


class OutOfBounds(GoodMetric):
    """A metric with a default that it does not allow."""

    def __init__(self, border: Annotated[int, Field(gt=5)] = 3) -> None:
        super().__init__()


class Undocumented(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, source: Tensor) -> Tensor:
        return source


@dataclass
class ByDataclass:
    border: int = 3


BROKEN = [
    Broken(kind, check, factory, found)
    for kind, check, factory, found in (
        ("metrics", metrics.has_finite_results, OddDirection, "higher_is_better is 'lower'"),
        ("metrics", metrics.has_finite_results, NoReset, "it has no reset"),
        ("metrics", metrics.has_finite_results, TensorResult, "compute() gives a tensor [3]"),
        ("metrics", metrics.ranks_outputs, WrongDirection, "is 0, "),
        ("metrics", metrics.takes_masks, LogarithmOfErrors, "is -inf for images of which half is the target"),
        ("metrics", metrics.begins_anew, Hoarding, "the last first"),
        ("metrics", metrics.begins_anew, Shared, "once again"),
        ("metrics", metrics.has_features, Spending, "features that update() has changed"),
        ("exporters", exporters.states_facts, NoFacts, "facts = None"),
        ("exporters", exporters.writes_what_it_was_given, TwoFiles, ".model.part.data"),
        ("exporters", exporters.writes_what_it_was_given, OneSize, "[1, 3, 16, 16] instead of [1, 3, 17, 31]"),
        ("exporters", exporters.writes_what_it_was_given, Inexact, "values that differ by up to 0.01"),
        ("encodings", encodings.declares_its_output, OtherResampling, "resampling = 'area'"),
        ("encodings", encodings.encodes, MoreChannels, "[2, 3, 32, 48] instead of [2, 2, 32, 48]"),
        ("encodings", encodings.encodes, TooLarge, "values outside [-1, 1]"),
        ("encodings", encodings.encodes, OfTheBatch, "for a batch than for its images"),
        ("encodings", encodings.is_a_function, Noisy, "another value"),
        ("encodings", encodings.is_a_function, OfTheMode, "another value made again, in evaluation mode"),
        ("encodings", encodings.pictures, GlaringPicture, "values outside [-1, 1]"),
        ("encodings", encodings.pictures, GreyPicture, "[2, 1, 32, 48]"),
        ("encodings", encodings.counts_classes, HalfClasses, "numbers of classes that are not whole"),
        ("encodings", encodings.counts_classes, UncountedClasses, "classes = 'missing'"),
        ("metrics", signature.has_a_schema, Unannotated, "parameter 'border' has no type annotation"),
        ("metrics", signature.takes_its_parameters, Required, "no value for border"),
        (
            "metrics",
            signature.takes_its_parameters,
            OutOfBounds,
            "border: found 3, expected a whole number from 6 on",
        ),
        ("metrics", signature.is_documented, Undocumented, "no docstring"),
        ("metrics", signature.is_documented, ByDataclass, "the docstring that dataclasses write"),
    )
]
