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
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from p2pkit.errors import NOT_UTF_8, ModelFileError, P2PKitError, first_line, visible
from p2pkit.inference.model_header import ModelHeader, contradictions
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.opening import ReadError, is_listed
from p2pkit.utils.progress import print_line
from p2pkit.utils.tensor_file import Contents, DamagedFile, checksum, read_contents, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION, WITHOUT_DISCRIMINATOR = 3, 2
"""Files without a discriminator are of version 2, which earlier versions of p2pkit read too. Those of version 1 have no
checksum of their header, and the oldest none of their weights."""
FILE_NAME = "model.safetensors"
"""What a run calls its model file."""
RECIPE = "recipe.toml"
"""What it calls the recipe that it goes by, written when it begins."""
_KEY = "p2pkit"
_DISCRIMINATOR = "discriminator."
"""What its tensors are called by, where the header has a discriminator; all others are the generator's."""
_CHECKSUM, _OWN_CHECKSUM = "sha256_of_the_weights", "sha256_of_the_rest"
_NOT_A_HEADER, _COPY = "the header of the model file is damaged", "Copy or download it anew"
_TENSORS = frozenset(["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"])
"""The types of tensors that networks have, as safetensors calls them."""


def write_model(
    file: Path, weights: Mapping[str, Tensor], header: ModelHeader, discriminator: Mapping[str, Tensor] | None = None
) -> None:
    """Write a model file, whole or not at all; with the weights of the ``discriminator`` where the header has one.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    from safetensors.torch import save_file

    assert (discriminator is None) == (header.discriminator is None)
    together = {**weights, **{_DISCRIMINATOR + name: tensor for name, tensor in (discriminator or {}).items()}}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in together.items()}
    # one key alone: safetensors writes several in any order, and equal models should be equal files
    described = {
        "format_version": WITHOUT_DISCRIMINATOR if discriminator is None else FORMAT_VERSION,
        _CHECKSUM: checksum(tensors),
        "header": header.model_dump(mode="json"),
    }
    described[_OWN_CHECKSUM] = _sha256(described)
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
        ReadError: the system does not let it be read now, which is no damage.
    """
    with _errors_told(file):
        contents = read_contents(file)
    header, _ = _parse(file, contents)
    tensors = contents.entries.values()
    values, dtypes = sum(prod(one.shape) for one in tensors), sorted({one.dtype for one in tensors})
    return Outline(header, len(tensors), values, dtypes, contents.size)


def read_header(file: Path) -> ModelHeader:
    """The header alone; the errors are those of :func:`read_outline`."""
    return read_outline(file).header


def read_model(file: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Header and generator's weights of a model file; raises also where the weights are not those that were written."""
    header, networks = read_model_networks(file)
    return header, networks["generator"]


def read_model_networks(file: Path) -> tuple[ModelHeader, dict[str, dict[str, Tensor]]]:
    """Header and weights of each network in a model file, "generator" and maybe "discriminator"; raises likewise."""
    with _errors_told(file):
        contents, weights = read_tensors(file)
    header, written = _parse(file, contents)
    if written is not None and written != checksum(weights):
        raise ModelFileError(
            f"{file}: the weights are damaged: their checksum is not the one in the header. Copy or download it anew"
        )
    if header.discriminator is None:
        return header, {"generator": weights}
    networks: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
    for name, tensor in weights.items():
        network = "discriminator" if name.startswith(_DISCRIMINATOR) else "generator"
        networks[network][name.removeprefix(_DISCRIMINATOR)] = tensor
    return header, networks


def refuse_not_finite(file: Path, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ModelFileError where one of the ``weights`` from ``file`` is NaN or infinite, and is not so in ``own``."""
    for name, tensor in weights.items():
        if not (tensor.is_floating_point() and tensor.numel()) or all(one.isfinite() for one in tensor.aminmax()):
            continue
        if name not in own or own[name].shape != tensor.shape or not own[name].equal(tensor.to(own[name])):
            raise ModelFileError(
                f"{file}: {visible(name)} holds NaN or infinite values, so that its outputs are no images; take "
                "another model, or one of an earlier step of its run"
            )


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
def _errors_told(file: Path) -> Iterator[None]:
    """Turn what reading a model file in the body raises into what is wrong with the file."""
    if set(str(file)) & NOT_UTF_8:
        raise ModelFileError(f"{file}: the path of a model file must be in UTF-8; rename what is called otherwise")
    try:
        yield
    except DamagedFile as error:
        hint = "; of a reference implementation's checkpoint p2pkit import makes one" if file.suffix == ".pth" else ""
        raise ModelFileError(
            f"{file}: the model file cannot be read, it is damaged or incomplete: {error}{hint}"
        ) from error
    except OSError as error:
        # a share may say that a file is not there although it is
        if file.parent.is_dir() and is_listed(file):
            raise ReadError(f"cannot read {file}: {error.strerror}; once it can be read, try again") from error
        raise ModelFileError(f"{file}: there is no such model file; check the path") from error


def _parse(file: Path, contents: Contents) -> tuple[ModelHeader, str | None]:
    """The header, and the checksum of the weights where the file has one."""
    metadata = contents.metadata
    for name, entry in contents.entries.items():
        if entry.dtype not in _TENSORS:
            raise ModelFileError(f"{file}: {visible(name)} is a tensor of {entry.dtype}, which no generator has")
    if _KEY not in metadata:
        raise ModelFileError(
            f"{file}: a safetensors file, but not a p2pkit model: it has no header {_KEY!r}; give the "
            "model.safetensors of a run"
        )
    try:
        described: dict[str, Any] = json.loads(metadata[_KEY])
        version = described["format_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"the format version is {version!r}")
        if version > FORMAT_VERSION:
            raise ModelFileError(
                f"{file}: written in format version {version}; this p2pkit reads up to {FORMAT_VERSION}. "
                "Upgrade p2pkit to use it"
            )
        if version > 1 and described.pop(_OWN_CHECKSUM) != _sha256(described):
            raise ValueError("its checksum is not that of what it says")
        # as text, in which strict pydantic takes a list for a tuple
        header = ModelHeader.model_validate_json(json.dumps(described["header"]), strict=True)
        if wrong := next(contradictions(header), None):
            raise ValueError(wrong)
        written = described.get(_CHECKSUM)
        if not isinstance(written, str) and (version > 1 or written is not None):
            raise ValueError(f"{_CHECKSUM} is {written!r}")
        return header, written
    except ModelFileError:
        raise
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        at = visible(".".join(map(str, problem["loc"])))
        raise ModelFileError(f"{file}: {_NOT_A_HEADER}: {at}: {problem['msg']}. {_COPY}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = visible(first_line(error))
        why = f"there is no {why}" if isinstance(error, KeyError) else why
        raise ModelFileError(f"{file}: {_NOT_A_HEADER}: {why[:300]}. {_COPY}") from error


def _sha256(described: Mapping[str, Any]) -> str:
    """The checksum of what a file says of itself, that of its weights among it."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
