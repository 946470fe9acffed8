"""Checkpoints of other programs, which are pickles: with code in them, with sizes that are none, with odd networks."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import reference_networks as reference
from tests.conftest import Outcome
from tests.hostile.attacks import MB, Attack

FAMILY = "checkpoints of other programs"
CODE = "code in a checkpoint of another program"
CALLED, LEFT = "latest_net_G.pth", "harm"


class Harm:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {LEFT}",)


class Evaluated:
    """The same by a built-in function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({LEFT!r}, 'w')",)


def imported(folder: Path, write: Callable[[Path], object], *options: object) -> Sequence[object]:
    write(folder / CALLED)
    return ["import", folder / CALLED, "--out", folder / "model.safetensors", *options]


def unharmed(folder: Path, outcome: Outcome) -> None:
    assert not (folder / LEFT).exists() and not Path(LEFT).exists()
    assert not (folder / "model.safetensors").exists()


def small() -> dict[str, Tensor]:
    return dict(reference.generator("resnet_6blocks", "instance", False, width=2).state_dict())


def saved(content: Callable[[], object], **options: Any) -> Callable[[Path], object]:
    return lambda file: torch.save(content(), file, **options)


def _archive(content: bytes, packing: int = zipfile.ZIP_STORED) -> Callable[[Path], object]:
    """The archive that torch.save makes, with this pickle in it."""

    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w", packing) as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")

    return write


def _packed(file: Path) -> None:
    """An archive of few bytes whose tensor is zeros of a gigabyte, packed."""
    plain = BytesIO()
    torch.save({"model.1.weight": torch.zeros(2**18)}, plain)
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in whole.namelist():
            content = bytes(2**28) if member.endswith("data/0") else whole.read(member)
            archive.writestr(member, content.replace(struct.pack("<i", 2**18), struct.pack("<i", 2**26)))


def _legacy(numel: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Callable[[Path], object]:
    """A file of the format before PyTorch 1.6, whose storage is said to have ``numel`` values and has four."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel, None) if isinstance(obj, Storage) else None

    class Made:
        def __reduce__(self) -> tuple[Any, ...]:
            made: Any = torch._utils._rebuild_tensor_v2  # type: ignore[attr-defined]
            return made, (Storage(), 0, shape, strides, False, OrderedDict())

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(part, stream, protocol=2)
            Pickler(stream, protocol=2).dump({"model.1.weight": Made()})
            pickle.dump(["0"], stream, protocol=2)
            stream.write(struct.pack("<q", 4) + struct.pack("<4f", *[0.0] * 4))

    return write


def _tar(file: Path) -> None:
    """The oldest format, an archive whose parts PyTorch would unpack into a folder."""
    with tarfile.open(file, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Harm(), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))


def _script(file: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), file)


def _cut(file: Path) -> None:
    torch.save(small(), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _wide() -> dict[str, Tensor]:
    """A few tensors that tell a U-Net of a hundred gigabytes."""
    state = {"model.model.0.weight": torch.zeros(20_000, 1, 1, 1), "model.model.3.weight": torch.zeros(1, 1, 1, 1)}
    return state | {f"model.model.1{'.model.3' * level}.model.1.weight": torch.zeros(1) for level in range(7)}


def _deep() -> dict[str, Tensor]:
    state = {"model.model.0.weight": torch.zeros(1, 1, 4, 4), "model.model.3.weight": torch.zeros(2, 1, 4, 4)}
    return state | {f"model.model.1{'.model.3' * level}.model.1.weight": torch.zeros(1) for level in range(1000)}


def _with(name: str, tensor: Callable[[], object]) -> Callable[[], object]:
    return lambda: {**small(), name: tensor()}


def _longest(numel: int) -> Callable[[], Tensor]:
    return lambda: torch.zeros(1).expand(numel)


_CODES: dict[str, Callable[[Path], object]] = {
    "in a pickle": lambda file: file.write_bytes(pickle.dumps(Harm(), protocol=2)),
    "in a pickle of today": lambda file: file.write_bytes(pickle.dumps(Harm())),
    "saved by torch": saved(Harm),
    "beside the tensors": saved(lambda: {**small(), "model.1.weight": Harm()}),
    "beside the state dict": saved(lambda: {"state_dict": small(), "options": Harm()}),
    "in the format before 1.6": saved(lambda: {**small(), "more": Harm()}, _use_new_zipfile_serialization=False),
    "by a built-in function": saved(lambda: [Evaluated()]),
    "in an archive": _archive(pickle.dumps(Harm(), protocol=2)),
    "in a packed archive": _archive(pickle.dumps(Harm(), protocol=2), zipfile.ZIP_DEFLATED),
    "in the oldest format": _tar,
    "a whole network": saved(lambda: torch.nn.Conv2d(1, 1, 1)),
    "a name that controls a terminal": lambda file: file.write_bytes(b"\x80\x02c\x1b[2J\n\x1b]0;a\n)R."),
}
ATTACKS = [
    Attack(CODE, called, partial(imported, write=write), [CALLED], settled=unharmed) for called, write in _CODES.items()
]
_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda file: file.write_bytes(b""), "damaged"),
    "no file": (lambda file: None, "no such file"),
    "bytes": (lambda file: file.write_bytes(os.urandom(1000)), "damaged"),
    "half of one": (_cut, "damaged"),
    "zeros packed to nothing": (_packed, "packed"),
    "a program of TorchScript": (_script, "TorchScript"),
    "a table of nothing": (saved(dict), "an empty table"),
    "a number": (saved(lambda: 5), "no state dict"),
    "a tensor": (saved(lambda: torch.zeros(3)), "no state dict"),
    "names that are numbers": (saved(lambda: {1: torch.zeros(3)}), "no state dict"),
    "names that control a terminal": (saved(lambda: {"\x1b[2J\u202e": torch.zeros(3)}), "no generator here"),
    "a lone archive": (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(100)), "damaged"),
    "one value that is said to be many": (saved(_with("model.1.weight", _longest(10**9))), "claim"),
    "a storage of four values and a terabyte": (_legacy(2**38, (2**38,), (1,)), "damaged"),
    "a storage of four values and a gigabyte": (_legacy(2**28, (2**28,), (1,)), "damaged"),
    "a tensor larger than its storage": (_legacy(4, (2**28,), (1,)), CALLED),
    "strides of 0": (_legacy(4, (2**40,), (0,)), "claim"),
    "complex numbers": (saved(_with("model.1.bias", lambda: torch.zeros(2, dtype=torch.complex64))), "complex64"),
    "a sparse tensor": (saved(_with("model.1.weight", lambda: torch.zeros(2, 3, 7, 7).to_sparse())), "sparse"),
    "NaN": (saved(_with("model.1.bias", lambda: torch.full((2,), float("nan")))), "NaN or infinite"),
    "what is infinite in 32 bits": (
        saved(_with("model.1.bias", lambda: torch.full((2,), 1e300, dtype=torch.float64))),
        "NaN or infinite",
    ),
    "whole numbers for weights": (saved(_with("model.1.bias", lambda: torch.zeros(2).long())), "is of torch.int64"),
    "a safetensors file": (lambda file: save_file(small(), file), "a safetensors file"),
    "a discriminator": (saved(lambda: reference.discriminator("basic", "batch").state_dict()), "give the file of the"),
    "a network too wide for its file": (saved(_wide), "more memory"),
    "a network too deep": (saved(_deep), "depth"),
    "one tensor more": (saved(_with("model.99.weight", lambda: torch.zeros(2))), "one more in the file"),
    "one of another shape": (saved(_with("model.4.weight", lambda: torch.zeros(4, 2, 5, 5))), "expected [4, 2, 3, 3]"),
    "two state dicts": (saved(lambda: {"G_A": small(), "G_B": small()}), "alone"),
    "two names for one": (saved(lambda: {**small(), "module.model.1.weight": torch.zeros(1)}), "same name"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "a device"),
    "a FIFO": (os.mkfifo, "a FIFO"),
    "a folder": (lambda file: file.mkdir(), CALLED),
}
ATTACKS += [
    Attack(FAMILY, called, partial(imported, write=write), [says], memory=60 * MB, disk=MB, settled=unharmed)
    for called, (write, says) in _FILES.items()
]
ATTACKS.append(
    Attack(
        FAMILY, "its discriminator is a generator", settled=unharmed,
        says=["no discriminator here", "those of the generator resnet"],
        prepare=lambda folder: imported(folder, saved(small), "--discriminator", folder / CALLED),
    )
)  # fmt: skip
