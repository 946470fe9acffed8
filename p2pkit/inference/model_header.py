"""The header of a model file: all that rebuilding and using its generator needs, and the values that each may have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from p2pkit.contracts import Policy, Resampling, ValueRange, dtype_range
from p2pkit.errors import ModelFileError, P2PKitError, first_line, visible
from p2pkit.settings import LAB_AB, LAB_L, LAB_RANGES, Bounds, Channels, Colour
from p2pkit.utils.opening import limits, over, parsed_toml

if TYPE_CHECKING:
    from p2pkit.images.channels import Taking
    from p2pkit.images.lab import Colours
    from p2pkit.images.pixels import Reading

Count = Annotated[int, Field(gt=0, le=65536)]
"""A number of channels."""
Step = Annotated[int, Field(ge=0, le=2**53)]
Side = Annotated[int, Field(gt=0, le=10**8)]
"""Height or width in pixels."""
Name = Annotated[str, Field(pattern=r"^[^\p{C}\p{Zl}\p{Zp}]{1,200}$")]
"""What a plugin calls a component: text that a terminal shows as it is."""
Distribution = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9]|unknown distribution)$")
]
"""The name of a distribution as pip takes it; also what stands for one whose metadata has none."""
Version = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}|of unknown version)$")]
PixelType = Annotated[str, Field(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64)|[<>][uif][248])$")]
"""A type of pixels, as NumPy calls it."""
LARGEST, SMALLEST_SPAN = 3.4e38, 1e-37
"""Values of pixels and of what they span, between which float32 computes."""
TABLES_IN_A_ROW = frozenset({"losses", "metrics", "augmentations", "callbacks"})
"""Sections of a recipe that are lists of tables."""
LARGE_SCALE = 8
"""Outputs that are more times as high and wide as their sources are bounded."""
FEATURES = 16
"""How many times as much as its image the features of a generator take, at least where it is large."""
DEEPEST = 20
"""How far parameters lie within others."""


class Header(BaseModel):
    """A table of the header. Keys of a later p2pkit are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class ComponentHeader(Header):
    """What a component is made by, and who offers it."""

    name: Name
    parameters: dict[Name, Any]
    distribution: Distribution
    distribution_version: Version


class EncodingHeader(ComponentHeader):
    """What the generator's sources are encoded with."""


class ResizeHeader(Header):
    """What sources were resized to for validation: ``size``, (height, width), or just to cover it with their aspect."""

    size: tuple[Side, Side]
    keep_aspect: bool = False


class PlanesHeader(Header):
    """How sources were taken from volumes, arrays [rows, columns, planes] (images.volumes)."""

    axis: Annotated[int, Field(ge=0, le=2)]
    """The axis that was walked."""
    neighbours: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How many planes on each side of one are channels too."""
    orientation: Annotated[str, Field(pattern="^([RLAPSI]{3})?$")] = ""
    """To which sides of a patient the indices of the first volume grow, "RAS" say; empty where that is not known."""


class SideHeader(Header):
    """How files of one side are read, beside what :class:`ModelHeader` or :class:`SourceHeader` has (settings)."""

    channels: Channels | None = None
    """What was taken of the channels of files: "rgb", "gray", "first 3", "lab_L", "lab_ab"; None for all."""
    alpha: Colour | None = None
    """What became of alpha: "drop", or the colour behind it; None where it is a channel like others."""
    palette: Literal["colours", "indices"] | None = None
    """What files with a palette are: "colours" or "indices"; None for indices where an encoding takes class maps."""
    ranges: tuple[Bounds, ...] = ()
    """The range of each channel, where they differ."""
    mapping: Literal["linear", "logarithmic"] = "linear"
    resampling: Resampling | None = None
    """How it is resized, where the recipe says so."""
    mask: Literal["nodata"] | None = None
    """ "nodata": values that mean "nothing here" are 0 in [-1, 1] where there is no fill; without it such files cannot
    be translated."""


class SourceHeader(Header):
    """One of several sources: its channels, and what of a single source :class:`ModelHeader` says itself."""

    name: Name | Literal[""]
    channels: Count
    dtype: PixelType | Literal[""]
    range: Bounds | None = None
    nodata: float | Literal["nan"] | None = None
    fill: float | None = None
    reading: SideHeader = SideHeader()
    encoding: EncodingHeader | None = None

    @property
    def values(self) -> ValueRange:
        """The values that are -1 and 1 to the generator."""
        return self.range or dtype_range(np.dtype(self.dtype))

    def how_read(self, class_map: bool = False) -> tuple[Reading, Taking]:
        """How its stored values are read, and what is taken of its files' channels; ``class_map`` has classes."""
        from p2pkit.images.channels import Taking  # it needs torch, a header alone does not
        from p2pkit.images.pixels import Reading

        read, nodata = self.reading, None if self.nodata is None else float(self.nodata)
        palette = read.palette or ("labels" if class_map else None)
        reading = Reading(nodata, self.fill, read.mask is not None, read.ranges, read.mapping == "logarithmic")
        return reading, Taking(read.channels, read.alpha, palette, nodata)


class ClassHeader(Header):
    """What one class of label maps is called, and the values that its pixels have in files."""

    name: Name
    values: Annotated[tuple[Annotated[float, Field(ge=0, le=65535)], ...], Field(min_length=1, max_length=4)]


class DrawingHeader(Header):
    """What can be drawn for a source: a label map of some classes, or edges, whose classes are paper and line."""

    kind: Literal["labels", "edges"]
    classes: Annotated[tuple[ClassHeader, ...], Field(min_length=2, max_length=256)]


class OriginHeader(Header):
    """The model whose weights a run began with (``train.init_from``), or the checkpoint that was imported."""

    path: Annotated[str, Field(max_length=10_000)]
    step: Step
    sha256_of_weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelHeader(Header):
    """What a model file says about itself: all that rebuilding and using its generator needs, and where it is from."""

    generator: Name
    parameters: dict[Name, Any]
    distribution: Distribution
    distribution_version: Version
    source_channels: Count
    """Of all sources together."""
    target_channels: Count
    """Of what the generator gives; of pictures made of it see :attr:`picture_channels`."""
    source_dtype: PixelType | Literal[""]
    """Empty where there are several ``sources``, each with its own."""
    target_dtype: PixelType
    source_range: Bounds | None = None
    """The values that are -1 and 1 to the generator; None for the range of each source's own type."""
    target_range: Bounds | None = None
    """The values that the generator's -1 and 1 are; None for the range of ``target_dtype``."""
    source_nodata: float | Literal["nan"] | None = None
    """The value that means "nothing here" in sources, beside the one that a file names itself."""
    source_fill: float | None = None
    """What takes the place of such values; None: sources that have some cannot be translated."""
    source_reading: SideHeader = SideHeader()
    target_reading: SideHeader = SideHeader()
    sources: tuple[SourceHeader, ...] = ()
    """Several sources, in the order of their channels; a single one is what the fields above say."""
    target_ending: Annotated[str, Field(pattern=r"^(\.[^\p{C}\p{Z}/\\]{1,60})?$")] = ""
    """The ending of the training targets' files, such as ".tif"; empty when they were no files."""
    encoding: EncodingHeader | None = None
    """What sources are encoded with before the generator sees them; None when it sees them as they are."""
    discriminator: ComponentHeader | None = None
    """The discriminator whose weights are in the file too, for runs that begin with it; None where there is none."""
    size: tuple[Side, Side] | None = None
    """Height and width of the images in training; None when they were of several sizes."""
    scale: Annotated[int, Field(gt=0, le=256)] = 1
    """How many times as high and wide as sources outputs are."""
    resize: ResizeHeader | None = None
    """How translation resizes sources, as validation did; None where images keep their size."""
    source_size: tuple[Side, Side] | None = None
    """Height and width of the first training source as stored; None where that is not known."""
    stored_as: Annotated[str, Field(pattern="^(left half|right half)?$")] = ""
    """The part of their files that the training sources were: "left half", "right half", or empty for all of it."""
    planes: PlanesHeader | None = None
    """How sources were planes of volumes, where they were."""
    drawings: Annotated[dict[Name | Literal[""], DrawingHeader], Field(max_length=100)] = {}
    """What people can draw for a source, by its name ("" for a single one); photos and the like are not in it."""
    policy: Policy = Policy()
    init_from: OriginHeader | None = None
    """The model whose weights its training began with, or the checkpoint that it was imported from."""
    recipe: Annotated[str, Field(max_length=10_000_000)] = ""
    """The resolved recipe, as TOML."""
    data: Annotated[str, Field(max_length=100_000)] = ""
    """The data set and its fingerprint."""
    step: Step = 0
    metrics: Annotated[dict[Name, Annotated[float, Field(allow_inf_nan=True)]], Field(max_length=10_000)] = {}
    """By name; a number that is not finite, such as the PSNR of equal images, is one."""

    @property
    def each_source(self) -> tuple[SourceHeader, ...]:
        """The sources; a single one has no name."""
        return self.sources or (
            SourceHeader(
                name="", channels=self.source_channels, dtype=self.source_dtype, range=self.source_range,
                nodata=self.source_nodata, fill=self.source_fill, reading=self.source_reading, encoding=self.encoding,
            ),
        )  # fmt: skip

    @property
    def ranges(self) -> dict[str, ValueRange]:
        """The range of values of each side that has one other than that of its type, as data has them by side."""
        sides = {f"source.{one.name}".rstrip("."): one.range for one in self.each_source}
        return {side: values for side, values in {**sides, "target": self.target_range}.items() if values is not None}

    @property
    def colours(self) -> Colours | None:
        """How outputs become pictures, by the lightness of their sources; None where they are pictures themselves."""
        if self.target_reading.channels != LAB_AB:
            return None
        from p2pkit.images.lab import Colours  # it needs torch

        sources = [(one.reading.channels, one.channels, one.range or LAB_RANGES[LAB_L]) for one in self.each_source]
        return Colours.of(LAB_AB, self.target_range or LAB_RANGES[LAB_AB], sources)

    @property
    def picture_channels(self) -> int:
        """The channels of a translation."""
        return 3 if self.target_reading.channels == LAB_AB else self.target_channels

    def refuse_huge_output(self, source: tuple[int, int]) -> None:
        """Raise P2PKitError where a ``source`` of (height, width) would become many thousand times as many bytes."""
        needed = 4 * self.scale**2 * source[0] * source[1] * self.target_channels
        if self.scale > LARGE_SCALE and needed > limits().image_bytes:
            raise P2PKitError(
                f"the output is {self.scale} times as high and wide as its source, which takes more than "
                f"{over('image_bytes', needed)}; or translate in tiles (--tile)"
            )

    def recipe_tables(self) -> dict[str, Any]:
        """The recipe. Raises ModelFileError where it is none."""
        try:
            tables = parsed_toml(self.recipe)
        except ValueError as error:
            why = visible(first_line(error))
            raise ModelFileError(f"the recipe in the model file cannot be read: {why}") from error
        for name, table in tables.items():
            each = table if name in TABLES_IN_A_ROW and isinstance(table, list) else [table]
            if not all(isinstance(one, dict) for one in each):
                raise ModelFileError(f"the recipe in the model file: {visible(name)} is no table")
        return tables

    def trained(self, step: int, metrics: dict[str, float]) -> ModelHeader:
        """The same header for the weights of a certain step."""
        return self.model_copy(update={"step": step, "metrics": metrics})


def contradictions(header: ModelHeader) -> Iterator[str]:
    """What the values of a header, each of which may be so by itself, cannot be together, a sentence on each."""
    sources, parts = header.each_source, header.sources
    names = [one.name for one in parts]
    if bool(parts) == bool(header.source_dtype):
        yield "source_dtype: expected where there is a single source, and there alone"
        return
    if len(set(names)) < len(names) or "" in names or any(not one.dtype for one in parts):
        yield "sources: each needs a name of its own, and a type of pixels"
        return
    if sum(one.channels for one in sources) != header.source_channels:
        yield f"source_channels: {header.source_channels}, which is not what the sources have together"
    yield from _of_lab(header)
    if header.planes is not None and header.source_channels % (2 * header.planes.neighbours + 1):
        yield f"planes.neighbours: {header.planes.neighbours}, which does not go with the channels of sources"
    for one in sources:
        yield from _of_values(f"source {one.name}".rstrip(), one.dtype, one.range, one.reading, one.channels)
    yield from _of_values(
        "target", header.target_dtype, header.target_range, header.target_reading, header.target_channels
    )
    for one in sources:
        drawn = header.drawings.get(one.name)
        if drawn is not None and any(len(each.values) != one.channels for each in drawn.classes):
            yield f"drawings: the colours of source {one.name!r} are not of its {one.channels} channels"
    for called, parameters in (
        ("parameters", header.parameters),
        *(("encoding.parameters", one.encoding.parameters) for one in sources if one.encoding),
        *([("discriminator.parameters", header.discriminator.parameters)] if header.discriminator else []),
    ):
        if not _is_usual(parameters):
            yield f"{called}: expected numbers that are finite, and no tables within {DEEPEST} others"
    if header.resize is not None:
        height, width = header.resize.size
        channels = max(header.source_channels, header.scale**2 * header.target_channels)
        needed = FEATURES * 4 * height * width * channels
        if needed > limits().image_bytes:
            yield f"resize.size: translating images of {height}x{width} takes more than {over('image_bytes', needed)}"


def _of_lab(header: ModelHeader) -> Iterator[str]:
    """What is wrong with sides that are parts of CIELAB."""
    target, counts = header.target_reading, {LAB_L: 1, LAB_AB: 2}
    sides = [(one.reading.channels, one.channels) for one in header.each_source]
    for taken, channels in (*sides, (target.channels, header.target_channels)):
        if channels != counts.get(taken or "", channels):
            yield f'channels: "{taken}" of {channels} channels'
    plain = header.scale == 1 and header.target_dtype == "uint8" and not target.ranges
    if target.channels == LAB_AB and not (plain and (LAB_L, 1) in sides):
        yield f'target_reading.channels: "{LAB_AB}" is of outputs in uint8 with one range, and needs a source "{LAB_L}"'


def _of_values(side: str, dtype: str, values: ValueRange | None, reading: SideHeader, channels: int) -> Iterator[str]:
    """What is wrong with the ranges of a side."""
    if values is None and not reading.ranges:
        try:
            dtype_range(np.dtype(dtype))
        except KeyError:
            yield f"{side}: pixels of {dtype} need a range of values"
    if len(reading.ranges) not in (0, channels):
        yield f"{side}: {len(reading.ranges)} ranges for {channels} channels"
    for low, high in (*reading.ranges, *([] if values is None else [values])):
        if not (-LARGEST < low < high < LARGEST and high - low > SMALLEST_SPAN):
            yield f"{side}: values from {low:g} to {high:g}, with which float32 cannot compute"
        elif low <= 0 and reading.mapping == "logarithmic":
            yield f"{side}: values from {low:g} on, which have no logarithm"


def _is_usual(value: Any, deep: int = 0) -> bool:
    """Whether a parameter is what a recipe can say."""
    if isinstance(value, dict | list):
        within = value.values() if isinstance(value, dict) else value
        return deep < DEEPEST and all(_is_usual(each, deep + 1) for each in within)
    return not isinstance(value, float) or math.isfinite(value)
