"""The self-describing model file: the generator's weights in safetensors, and a header that says how to rebuild it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from p2pkit.contracts import Policy, Resampling, ValueRange, dtype_range
from p2pkit.errors import NOT_UTF_8, ModelFileError, P2PKitError
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.progress import print_line

if TYPE_CHECKING:
    from torch import Tensor

    from p2pkit.images.channels import Taking
    from p2pkit.images.pixels import Reading

FORMAT_VERSION = 1
FILE_NAME = "model.safetensors"
"""What a run calls its model file."""
RECIPE = "recipe.toml"
"""What it calls the recipe that it goes by, written when it begins."""
_KEY = "p2pkit"
_CHECKSUM = "sha256_of_the_weights"


class EncodingHeader(BaseModel):
    """What the generator's sources are encoded with, and who offers it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    parameters: dict[str, Any]
    distribution: str
    distribution_version: str


class ResizeHeader(BaseModel):
    """What sources were resized to for validation: ``size``, (height, width), or just to cover it with their aspect."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    size: tuple[int, int]
    keep_aspect: bool = False


class PlanesHeader(BaseModel):
    """How sources were taken from volumes, arrays [rows, columns, planes] (images.volumes)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    axis: Annotated[int, Field(ge=0, le=2)]
    """The axis that was walked."""
    neighbours: Annotated[int, Field(ge=0)] = 0
    """How many planes on each side of one are channels too."""
    orientation: str = ""
    """To which sides of a patient the indices of the first volume grow, "RAS" say; empty where that is not known."""


class SideHeader(BaseModel):
    """How files of one side are read, beside what :class:`ModelHeader` or :class:`SourceHeader` has (settings)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    channels: str | None = None
    """What was taken of the channels of files: "rgb", "gray", "first 3"; None for all."""
    alpha: str | None = None
    """What became of alpha: "drop", or the colour behind it; None where it is a channel like others."""
    palette: str | None = None
    """What files with a palette are: "colours" or "indices"; None for indices where an encoding takes class maps."""
    ranges: tuple[ValueRange, ...] = ()
    """The range of each channel, where they differ."""
    mapping: str = "linear"
    """ "linear" or "logarithmic"."""
    resampling: Resampling | None = None
    """How it is resized, where the recipe says so."""
    mask: str | None = None
    """ "nodata": values that mean "nothing here" are 0 in [-1, 1] where there is no fill; without it such files cannot
    be translated."""


class SourceHeader(BaseModel):
    """One of several sources: its channels, and what of a single source :class:`ModelHeader` says itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    channels: Annotated[int, Field(gt=0)]
    dtype: str
    range: ValueRange | None = None
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


class OriginHeader(BaseModel):
    """The model whose weights a run began with (``train.init_from``)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str
    step: int
    sha256_of_weights: str


class ModelHeader(BaseModel):
    """What a model file says about itself: all that rebuilding and using its generator needs, and where it is from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    generator: str
    parameters: dict[str, Any]
    distribution: str
    distribution_version: str
    source_channels: Annotated[int, Field(gt=0)]
    """Of all sources together."""
    target_channels: Annotated[int, Field(gt=0)]
    source_dtype: str
    """Empty where there are several ``sources``, each with its own."""
    target_dtype: str
    source_range: ValueRange | None = None
    """The values that are -1 and 1 to the generator; None for the range of each source's own type."""
    target_range: ValueRange | None = None
    """The values that the generator's -1 and 1 are; None for the range of ``target_dtype``."""
    source_nodata: float | Literal["nan"] | None = None
    """The value that means "nothing here" in sources, beside the one that a file names itself."""
    source_fill: float | None = None
    """What takes the place of such values; None: sources that have some cannot be translated."""
    source_reading: SideHeader = SideHeader()
    target_reading: SideHeader = SideHeader()
    sources: tuple[SourceHeader, ...] = ()
    """Several sources, in the order of their channels; a single one is what the fields above say."""
    target_ending: str = ""
    """The ending of the training targets' files, such as ".tif"; empty when they were no files."""
    encoding: EncodingHeader | None = None
    """What sources are encoded with before the generator sees them; None when it sees them as they are."""
    size: tuple[int, int] | None = None
    """Height and width of the images in training; None when they were of several sizes."""
    scale: Annotated[int, Field(gt=0)] = 1
    """How many times as high and wide as sources outputs are."""
    resize: ResizeHeader | None = None
    """How translation resizes sources, as validation did; None where images keep their size."""
    source_size: tuple[int, int] | None = None
    """Height and width of the first training source as stored; None where that is not known."""
    stored_as: str = ""
    """The part of their files that the training sources were: "left half", "right half", or empty for all of it."""
    planes: PlanesHeader | None = None
    """How sources were planes of volumes, where they were."""
    policy: Policy = Policy()
    init_from: OriginHeader | None = None
    """The model whose weights its training began with, where it was one."""
    recipe: str = ""
    """The resolved recipe, as TOML."""
    data: str = ""
    """The data set and its fingerprint."""
    step: int = 0
    metrics: dict[str, float] = {}

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

    def trained(self, step: int, metrics: dict[str, float]) -> ModelHeader:
        """The same header for the weights of a certain step."""
        return self.model_copy(update={"step": step, "metrics": metrics})


def write_model(file: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    """Write a model file, whole or not at all.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # one key alone: safetensors writes several in any order, and equal models should be equal files
    described = {
        "format_version": FORMAT_VERSION,
        _CHECKSUM: checksum(tensors),
        "header": header.model_dump(mode="json"),
    }
    with atomic_write(file) as aside:
        save_file(tensors, aside, metadata={_KEY: json.dumps(described)})


@dataclass(frozen=True)
class Outline:
    """A model file by its first bytes: the header, and what there is of weights (running statistics among them).

    ``dtypes`` are those of safetensors, such as F32; ``size`` is that of the file, in bytes.
    """

    header: ModelHeader
    tensors: int
    values: int
    dtypes: list[str]
    size: int


def read_outline(file: Path) -> Outline:
    """What a model file is. The weights are not read, and neither torch nor any plugin is needed.

    Raises:
        ModelFileError: the file is missing, damaged, not a p2pkit model, or of a later format version.
    """
    with _opened(file, "np") as handle:
        header, _ = _parse(file, handle.metadata() or {})
        slices = [handle.get_slice(name) for name in handle.keys()]  # noqa: SIM118 - it is not a dict
        values = sum(prod(one.get_shape()) for one in slices)
        dtypes = sorted({one.get_dtype() for one in slices})
    return Outline(header, len(slices), values, dtypes, file.stat().st_size)


def read_header(file: Path) -> ModelHeader:
    """The header alone; the errors are those of :func:`read_outline`."""
    return read_outline(file).header


def read_model(file: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Header and weights of a model file; raises also where the weights are not those that were written."""
    with _opened(file, "pt") as handle:
        header, written = _parse(file, handle.metadata() or {})
        weights = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - it is not a dict
    if written is not None and written != checksum(weights):
        raise ModelFileError(
            f"{file}: the weights are damaged: their checksum is not the one in the header. Copy or download it anew"
        )
    return header, weights


def find_model(path: Path) -> Path:
    """The model file that ``path`` means: the file itself, that in a run folder, or that of the newest run below it.

    Raises:
        ModelFileError: it is a folder without any.
    """
    if not path.is_dir() or (path / FILE_NAME).is_file():
        return path / FILE_NAME if path.is_dir() else path
    if (path / RECIPE).is_file():
        resume = f"p2pkit run --resume {shlex.quote(str(path))}"
        raise ModelFileError(f"{path}: the run in this folder has no {FILE_NAME} yet; {resume}")
    return newest_run(path, FILE_NAME, ModelFileError) / FILE_NAME


def newest_run(parent: Path, needed: str, error: type[P2PKitError]) -> Path:
    """The run below ``parent`` that began last, among those that hold a file ``needed``; it is printed.

    The folders below may be runs, or a single one of them may hold runs, as ``runs/`` does where there is one name.

    Raises:
        P2PKitError: an ``error``, where there is none, or where there are runs of several names.
    """
    for pattern in (needed, f"*/{needed}"):
        runs = [file.parents[needed.count("/")] for file in parent.glob(f"*/{pattern}")]
        names = sorted({run.parent.name for run in runs})
        if len(names) > 1:
            raise error(f"{parent}: it holds runs of several names ({', '.join(names)}); give the folder of one")
        if runs:
            newest = max(runs, key=_began)
            print_line(f"NOTICE: {parent}: the newest run in it is taken, {newest}")
            return newest
    if not parent.is_dir():
        found = "this is a file" if parent.exists() else "there is no such folder"
        raise error(f"{parent}: {found}; give a run folder, as in runs/NAME/DATE-TIME")
    there = sorted(path.name for path in parent.iterdir())
    held = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
    missing = f"this is not a run folder, and no run with a {needed} is below it"
    raise error(f"{parent}: {missing}; it holds {held or 'nothing'}. Give a run folder, as in runs/NAME/DATE-TIME")


def _began(run: Path) -> tuple[float, str]:
    """When a run began, by the recipe that was written then; the names of runs are their dates, unless given."""
    recipe = run / RECIPE
    return recipe.stat().st_mtime if recipe.is_file() else 0.0, run.name


@contextmanager
def _opened(file: Path, framework: str) -> Iterator[Any]:
    if not file.is_file():
        raise ModelFileError(f"{file}: there is no such model file; check the path")
    if set(str(file)) & NOT_UTF_8:
        raise ModelFileError(f"{file}: the path of a model file must be in UTF-8; rename what is called otherwise")
    try:
        with safe_open(file, framework=framework) as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file}: the model file cannot be read, it is damaged or incomplete: {error}") from error


def checksum(weights: Mapping[str, Tensor], text: str = "") -> str:
    """The SHA-256 of a text and of tensors on the CPU, in the order of their names."""
    from torch import uint8

    digest = hashlib.sha256(text.encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()


def _parse(file: Path, metadata: dict[str, str]) -> tuple[ModelHeader, str | None]:
    """The header, and the checksum of the weights where the file has one."""
    if _KEY not in metadata:
        raise ModelFileError(
            f"{file}: a safetensors file, but not a p2pkit model: it has no header {_KEY!r}; give the "
            "model.safetensors of a run"
        )
    try:
        described = json.loads(metadata[_KEY])
        version = int(described["format_version"])
        if version > FORMAT_VERSION:
            raise ModelFileError(
                f"{file}: written in format version {version}; this p2pkit reads up to {FORMAT_VERSION}. "
                "Upgrade p2pkit to use it"
            )
        return ModelHeader.model_validate(described["header"]), described.get(_CHECKSUM)
    except ModelFileError:
        raise
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{file}: the header of the model file is damaged: {error}") from error
