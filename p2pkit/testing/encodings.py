"""The contract of an encoding (contracts.Encoding)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from p2pkit.errors import P2PKitError
from p2pkit.testing.checks import ContractViolation, Subject, contract, require

SOURCE_CHANNELS = (1, 3)
SOURCE_RANGE = (0.0, 255.0)
FEW = 8
"""Half of the pixels have whole numbers below this, as label maps do."""
SIZES = ((32, 48), (7, 13), (1, 1))


def _made(subject: Subject) -> list[tuple[nn.Module, Any]]:
    """Encodings for one channel and for three, each with its sources; it may refuse one of these, not both."""
    made = []
    for channels in (subject.supplied("source_channels", None),) if _pinned(subject) else SOURCE_CHANNELS:
        try:
            made.append((subject.make(source_channels=channels, source_range=SOURCE_RANGE), channels))
        except P2PKitError as error:
            refusal = error
    if not made:
        raise ContractViolation(f"it can be made neither for 1 channel nor for 3: {refusal}")
    return made


def _pinned(subject: Subject) -> bool:
    return "source_channels" in subject.parameters


def _sources(subject: Subject, channels: int, height: int, width: int, count: int = 2) -> Tensor:
    """Whole numbers in the range of values, half of them small, as tensors in [-1, 1]."""
    low, high = subject.supplied("source_range", SOURCE_RANGE)
    rng = torch.Generator().manual_seed(0)
    shape = (count, channels, height, width)
    few = low + torch.randint(0, FEW, shape, generator=rng)
    any_number = torch.randint(int(low), int(high) + 1, shape, generator=rng)
    values = torch.where(torch.rand(shape, generator=rng) < 0.5, few, any_number).clamp(low, high)
    sources: Tensor = (values - low) / (high - low) * 2 - 1
    return sources


@contract("it is a torch module that declares its channels (1 or more) and its resampling (nearest or bicubic)")
def declares_its_output(subject: Subject) -> None:
    """The two attributes that the assembly reads."""
    for encoding, _ in _made(subject):
        require(isinstance(encoding, nn.Module), f"{type(encoding).__name__} is not a torch.nn.Module")
        channels, resampling = (getattr(encoding, name, None) for name in ("channels", "resampling"))
        require(isinstance(channels, int) and channels > 0, f"channels = {channels!r}")
        require(resampling in ("nearest", "bicubic"), f"resampling = {resampling!r}")


@contract("it is a function of the source alone, without noise and without a state, and leaves the source as it is")
def is_a_function(subject: Subject) -> None:
    """Called twice, made twice, in training mode and not."""
    for (encoding, channels), (again, _) in zip(_made(subject), _made(subject), strict=True):
        source = _sources(subject, channels, *SIZES[0])
        before = source.clone()
        encoded = encoding(source)
        require(torch.equal(before, source), "it has changed the source in place")
        require(torch.equal(encoded, encoding(source)), "another value when it is called again")
        require(torch.equal(encoded, again.eval()(source)), "another value made again, in evaluation mode")


@contract("it maps sources [N, Cs, H, W] to [N, channels, H, W] in [-1, 1], of any size, each image by itself")
def encodes(subject: Subject) -> None:
    """Shape, range, and independence of the batch."""
    for encoding, channels in _made(subject):
        for height, width in SIZES:
            source = _sources(subject, channels, height, width)
            encoded = encoding(source)
            expected = [2, encoding.channels, height, width]
            require(list(encoded.shape) == expected, f"{list(encoded.shape)} instead of {expected}")
            require(encoded.dtype == source.dtype, f"{encoded.dtype}, of sources that are {source.dtype}")
            require(encoded.isfinite().all() and encoded.abs().max() <= 1, "values outside [-1, 1], or not finite")
            alone = torch.cat([encoding(source[:1]), encoding(source[1:])])
            require(torch.allclose(encoded, alone), "other values for a batch than for its images one by one")


@contract("its picture(source), if there is one, is [N, 3, H, W] in [-1, 1]")
def pictures(subject: Subject) -> None:
    """What sample grids show of a source."""
    for encoding, channels in _made(subject):
        if not hasattr(encoding, "picture"):
            continue
        picture: Any = encoding.picture(_sources(subject, channels, *SIZES[0]))  # type: ignore[operator]
        require(list(picture.shape) == [2, 3, *SIZES[0]], f"{list(picture.shape)}")
        require(picture.isfinite().all() and picture.abs().max() <= 1, "values outside [-1, 1], or not finite")


@contract("its class_numbers(source), if it is one of class maps, are whole numbers [N, H, W], beside classes and void")
def counts_classes(subject: Subject) -> None:
    """What the table of classes is made of."""
    for encoding, channels in _made(subject):
        if not hasattr(encoding, "class_numbers"):
            continue
        numbers: Any = encoding.class_numbers(_sources(subject, channels, *SIZES[0]))  # type: ignore[operator]
        require(list(numbers.shape) == [2, *SIZES[0]], f"{list(numbers.shape)}")
        require(torch.equal(numbers, numbers.round()), "numbers of classes that are not whole")
        classes, void = (getattr(encoding, name, "missing") for name in ("classes", "void"))
        require(isinstance(classes, int) and classes > 0, f"classes = {classes!r}")
        require(void is None or isinstance(void, int), f"void = {void!r}")


CHECKS = (declares_its_output, is_a_function, encodes, pictures, counts_classes)
