"""State dicts out of PyTorch's own files, which are pickles: only what holds tensors is read, and within bounds."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from io import BufferedReader
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from p2pkit.errors import ModelFileError, first_line, visible
from p2pkit.utils.opening import ReadError, is_listed, open_regular, patiently

StateDict = Mapping[str, Tensor]
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
"""What DataParallel and torch.compile put before the names of a network's tensors."""
_TYPES = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64})
_DAMAGED = "it is damaged, incomplete, or not a file of torch.save"
_NEEDED = re.compile(r"GLOBAL (\S{1,200})")
"""Where PyTorch says which Python object a file asks for."""


def read_state_dicts(file: Path) -> Mapping[str, StateDict]:
    """The state dicts in a file of torch.save: it is one, called "", or it holds some, by their names.

    Prefixes of wrappers are taken off, and so are running statistics without weights, which old versions of PyTorch
    kept for instance norm without using them. Nothing in the file is run.

    Raises:
        ModelFileError: the file is missing, damaged, or holds no state dict; it needs more than tensors to be read; or
            its tensors claim more than the file holds.
        ReadError: the system does not let it be read now.
    """
    try:
        content, size = patiently(partial(_read, file), file)
    except OSError as error:
        if file.parent.is_dir() and is_listed(file):
            raise ReadError(f"cannot read {file}: {error.strerror}; once it can be read, try again") from error
        raise ModelFileError(f"{file}: there is no such file; check the path") from error
    candidates = {"": content, **content} if isinstance(content, Mapping) else {}
    found = {str(name): one for name, one in candidates.items() if _is_state_dict(one)}
    if not found:
        raise ModelFileError(
            f"{file}: it holds {_described(content)}, and no state dict, which is tensors by name; write one by "
            "torch.save(network.state_dict(), FILE)"
        )
    _refuse_false_sizes(file, found, size)
    return {name: _plain(file, one) for name, one in found.items()}


def _read(file: Path) -> tuple[Any, int]:
    """What is in a file, and its size in bytes."""
    with open_regular(file) as stream:
        size = stream.seek(0, 2)
        _refuse_packed(file, stream, size)
        stream.seek(0)
        if stream.read(9)[8:] == b"{":  # behind the length of its header
            raise ModelFileError(
                f"{file}: a safetensors file, not one of torch.save; a model of p2pkit is none to import, and of "
                "another program's tensors torch.save(safetensors.torch.load_file(FILE), OUT) makes one"
            )
        stream.seek(0)
        try:
            with warnings.catch_warnings(action="ignore"):
                return torch.load(stream, map_location="cpu", weights_only=True), size
        except UnpicklingError as error:
            needed = _NEEDED.search(str(error))
            if needed is None:
                raise ModelFileError(f"{file}: {_DAMAGED}") from error
            raise ModelFileError(
                f"{file}: to be read it needs {visible(needed[1])}, a Python object, which tensors do not; nothing "
                "in it was run. If you trust it, load it with the program that wrote it, and save the weights alone: "
                "torch.save(network.state_dict(), FILE)"
            ) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise ModelFileError(f"{file}: {_DAMAGED}") from error
        except Exception as error:  # whatever torch raises of what is none of its files
            raise ModelFileError(f"{file}: {_DAMAGED}: {visible(first_line(error))[:200]}") from error


def _refuse_packed(file: Path, stream: BufferedReader, size: int) -> None:
    """Refuse an archive whose parts are more than it holds; PyTorch packs nothing, and would unpack what there is."""
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        return  # PyTorch's format before version 1.6, which is no archive
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelFileError(f"{file}: {_DAMAGED}: {visible(first_line(error))[:200]}") from error
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > size:
        raise ModelFileError(
            f"{file}: its parts are packed, as a TorchScript program's are, or lie over one another; save the state "
            "dict by torch.save"
        )


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items())
    )


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = ", ".join(visible(str(name))[:60] for name in list(content)[:5])
    return f"a table of {names}" if names else "an empty table"


def _refuse_false_sizes(file: Path, found: Mapping[str, StateDict], size: int) -> None:
    """Refuse tensors that are more than the file: few numbers can be said to be many, by strides of 0."""
    claimed = 0
    for one in found.values():
        for name, tensor in one.items():
            if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _TYPES:
                raise ModelFileError(
                    f"{file}: {visible(name)[:200]} is a tensor of {tensor.dtype} ({tensor.layout}), which no network "
                    "of the reference implementations has"
                )
            claimed += tensor.numel() * tensor.element_size()
    if claimed > len(found) * size:
        raise ModelFileError(f"{file}: its tensors claim {claimed} bytes, and the file has {size}; it is damaged")


def _plain(file: Path, state: StateDict) -> StateDict:
    """A state dict by the names that the network itself has, without what instance norm has left there."""
    plain = {_PREFIXES.sub("", name): tensor.detach() for name, tensor in state.items()}
    if len(plain) < len(state):
        raise ModelFileError(f"{file}: some tensors have the same name without module. and _orig_mod.; it is damaged")
    for name in [name for name in plain if name.endswith(".running_mean")]:
        norm = name.removesuffix(".running_mean")
        if f"{norm}.weight" not in plain:
            for left in ("running_mean", "running_var", "num_batches_tracked"):
                plain.pop(f"{norm}.{left}", None)
    return plain
