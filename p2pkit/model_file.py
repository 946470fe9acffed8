"""The self-describing model file: the generator's weights in safetensors, and a header that says how to rebuild it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from p2pkit.contracts import ValueRange
from p2pkit.errors import ModelFileError
from p2pkit.inference import Policy
from p2pkit.storage import written_aside

FORMAT_VERSION = 1
_KEY = "p2pkit"


class ModelHeader(BaseModel):
    """What a model file says about itself: all that rebuilding and using its generator needs, and where it is from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    generator: str
    parameters: dict[str, Any]
    distribution: str
    distribution_version: str
    source_channels: Annotated[int, Field(gt=0)]
    target_channels: Annotated[int, Field(gt=0)]
    source_dtype: str
    target_dtype: str
    source_range: ValueRange | None = None
    """The values that are -1 and 1 to the generator; None for the range of each source's own type."""
    target_range: ValueRange | None = None
    """The values that the generator's -1 and 1 are; None for the range of ``target_dtype``."""
    size: tuple[int, int] | None = None
    """Height and width of the images in training; None when they were of several sizes."""
    policy: Policy = Policy()
    recipe: str = ""
    """The resolved recipe, as TOML."""
    data: str = ""
    """The data set and its fingerprint."""
    step: int = 0
    metrics: dict[str, float] = {}

    def trained(self, step: int, metrics: dict[str, float]) -> ModelHeader:
        """The same header for the weights of a certain step."""
        return self.model_copy(update={"step": step, "metrics": metrics})


def write_model(file: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    """Write a model file, whole or not at all.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    # one key alone: safetensors writes several in any order, and equal models should be equal files
    metadata = {_KEY: json.dumps({"format_version": FORMAT_VERSION, "header": header.model_dump(mode="json")})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with written_aside(file) as aside:
        save_file(tensors, aside, metadata=metadata)


def read_header(file: Path) -> ModelHeader:
    """The header alone; the weights are not touched.

    Raises:
        ModelFileError: the file is missing, damaged, not a p2pkit model, or of a later format version.
    """
    return _read(file, with_weights=False)[0]


def read_model(file: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Header and weights of a model file; the errors are those of :func:`read_header`."""
    return _read(file, with_weights=True)


def _read(file: Path, with_weights: bool) -> tuple[ModelHeader, dict[str, Tensor]]:
    if not file.is_file():
        raise ModelFileError(f"{file}: there is no such model file")
    try:
        with safe_open(file, framework="pt") as handle:
            header = _parse(file, handle.metadata() or {})
            return header, {name: handle.get_tensor(name) for name in handle.keys()} if with_weights else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file}: the model file cannot be read, it is damaged or incomplete: {error}") from error


def _parse(file: Path, metadata: dict[str, str]) -> ModelHeader:
    if _KEY not in metadata:
        raise ModelFileError(f"{file}: a safetensors file, but not a p2pkit model: it has no header {_KEY!r}")
    try:
        described = json.loads(metadata[_KEY])
        version = int(described["format_version"])
        if version > FORMAT_VERSION:
            raise ModelFileError(
                f"{file}: written in format version {version}; this p2pkit reads up to {FORMAT_VERSION}. "
                "Upgrade p2pkit to use it"
            )
        return ModelHeader.model_validate(described["header"])
    except ModelFileError:
        raise
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{file}: the header of the model file is damaged: {error}") from error
