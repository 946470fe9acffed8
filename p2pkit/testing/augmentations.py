"""The contract of an augmentation (contracts.Augmentation)."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from p2pkit.contracts import Augmentation
from p2pkit.errors import P2PKitError
from p2pkit.testing.checks import ContractViolation, Subject, contract, require
from p2pkit.utils.seeds import seeded

CHANNELS = ({"source_channels": 3, "target_channels": 3}, {"source_channels": 2, "target_channels": 5})
SIZES = ((48, 48), (40, 56), (33, 47))
BLOCK = 8
"""The side of the blocks that images are made of, in pixels."""
DRAWS = 8
"""How many seeds each check tries: what happens at random mostly happens in one of these."""
ALIGNED = 0.5
"""The least correlation of a mask with a target that shows the same, when both have been moved."""
SEEDS = range(DRAWS)
BRIGHT = 0.45
"""Where a target is brighter, half of it is, it counts in tests with a mask."""
REFUSALS = (TypeError, ValueError, P2PKitError)
"""How an augmentation may refuse several sources, masks, or targets larger than their sources."""

Images = tuple[Tensor, Tensor]


def _made(subject: Subject) -> list[tuple[Augmentation, dict[str, int]]]:
    """Augmentations for each of CHANNELS; it may refuse one of these, not both."""
    made = []
    for channels in CHANNELS:
        channels = {name: subject.supplied(name, value) for name, value in channels.items()}
        try:
            augment = subject.make(**channels)
            augment(*_images(channels, SIZES[0]))
            made.append((augment, channels))
        except P2PKitError as error:
            refusal = error
    if not made:
        raise ContractViolation(f"it takes images neither of {CHANNELS[0]} nor of {CHANNELS[1]}: {refusal}")
    return made


def _images(channels: dict[str, int], size: tuple[int, int], mask: bool = False) -> Images:
    """A source (with ``mask`` a label map) and a target [C, H, W] of blocks, each channel of which shows the same."""
    height, width = size
    rng = torch.Generator().manual_seed(height)
    blocks = torch.randint(1, 9, (1, -(-height // BLOCK), -(-width // BLOCK)), generator=rng) / 10
    shown = blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, :height, :width]
    source, target = (shown.repeat(channels[name], 1, 1) for name in ("source_channels", "target_channels"))
    return (tv_tensors.Mask if mask else tv_tensors.Image)(source), tv_tensors.Image(target)


def _augmented(augment: Any, images: Sequence[Any], seed: int) -> Any:
    with seeded(seed):
        return augment(*images)


def _each(subject: Subject, mask: bool = False) -> Iterator[tuple[Images, Any]]:
    """Images of several channels and sizes, and what is made of them by several draws."""
    for augment, channels in _made(subject):
        for size in SIZES:
            for seed in SEEDS:
                images = _images(channels, size, mask)
                yield images, _augmented(augment, images, seed)


@contract("it gives a source and a target of one size, finite floats of the channels that they had")
def gives_two_images(subject: Subject) -> None:
    """Any channels that it takes, square sizes and others, images and label maps."""
    for mask in (False, True):
        for images, made in _each(subject, mask):
            several = isinstance(made, tuple | list) and len(made) == 2
            require(several and all(isinstance(each, Tensor) for each in made), f"{type(made).__name__} of two images")
            for given, image in zip(images, made, strict=True):
                found = f"{list(image.shape)} of {image.dtype}, of {list(given.shape)}"
                require(image.ndim == 3 and len(image) == len(given) and image.is_floating_point(), found)
                require(image.isfinite().all(), "values that are NaN or infinite")
            sizes = [list(image.shape[1:]) for image in made]
            require(sizes[0] == sizes[1], f"a source of {sizes[0]} and a target of {sizes[1]}")


@contract("what it makes of images depends on the random states of torch, NumPy and Python alone")
def follows_the_seed(subject: Subject) -> None:
    """Called again, made again, and sent to another process, it gives the same."""
    for augment, channels in _made(subject):
        images = _images(channels, SIZES[0])
        made = [_augmented(augment, images, seed) for seed in SEEDS]
        copy = pickle.loads(pickle.dumps(augment))
        for how, other in (("called again", augment), ("made again", subject.make(1, **channels)), ("pickled", copy)):
            for seed in reversed(SEEDS):
                same = all(map(torch.equal, _augmented(other, images, seed), made[seed]))
                require(same, f"images and random states are the same, what it makes of them is not when it is {how}")


@contract("it leaves the images that it is given as they are")
def changes_nothing(subject: Subject) -> None:
    """What it makes is new."""
    for mask in (False, True):
        for augment, channels in _made(subject):
            given, unchanged = _images(channels, SIZES[0], mask), _images(channels, SIZES[0], mask)
            for seed in SEEDS:
                _augmented(augment, given, seed)
                require(all(map(torch.equal, given, unchanged)), "it has changed an image in place")


@contract("the values of a label map (tv_tensors.Mask) may move, but are neither mixed nor changed")
def keeps_labels(subject: Subject) -> None:
    """There are no values but those that there were, and 0 where nothing was."""
    for images, made in _each(subject, mask=True):
        known = set(images[0].flatten().tolist()) | {0.0}
        new = set(made[0].flatten().tolist()) - known
        require(not new, f"{len(new)} values that were not in the label map")


@contract("it moves source and target alike")
def moves_both_alike(subject: Subject) -> None:
    """A label map and a target that showed the same still do, whatever has become of the colours."""
    for _, (source, target) in _each(subject, mask=True):
        _require_aligned(source, target, "a label map and a target that showed the same")


@contract("of a dict of sources it gives such a dict, and of a mask one moved as the target is; or it refuses these")
def takes_several_sources_and_masks(subject: Subject) -> None:
    """A picture and a label map, or one source, with a mask or without, and targets of once and twice the size."""
    for augment, channels in _made(subject):
        for several, masked, scale in product((True, False), (True, False), (1, 2)):
            try:
                for seed in SEEDS:
                    given = _sample(channels, several, masked, scale)
                    _require_sample(given, _augmented(augment, given, seed), scale)
            except REFUSALS:
                if several or masked or scale > 1:
                    continue
                raise


def _sample(channels: dict[str, int], several: bool, masked: bool, scale: int) -> Sequence[Any]:
    """Source, target and mask as they come in training: the mask is 1 where the target is bright, else 0."""
    source, target = _images(channels, SIZES[1])
    target = tv_tensors.Image(target.repeat_interleave(scale, 1).repeat_interleave(scale, 2))
    labels = tv_tensors.Mask(source[:1].as_subclass(Tensor))
    mask = tv_tensors.Mask((target[:1].as_subclass(Tensor) > BRIGHT).float())
    return {"picture": source, "labels": labels} if several else source, target, *([mask] if masked else [])


def _require_sample(given: Sequence[Any], made: Any, scale: int) -> None:
    """The same images, of sizes that go together, moved alike."""
    of = ("source", "target", "mask")[: len(given)]
    require(isinstance(made, tuple | list) and len(made) == len(of), f"{type(made).__name__} of {', '.join(of)}")
    source, target, *masks = made
    if isinstance(given[0], dict):
        names = list(source) if isinstance(source, dict) else type(source).__name__
        require(names == list(given[0]), f"{names} of the sources {list(given[0])}")
    before, after = _each_image(given), _each_image(made)
    height, width = after[0].shape[1:]
    for place, (was, image) in enumerate(zip(before, after, strict=True)):
        factor = 1 if place < len(after) - len(made) + 1 else scale
        found = f"{list(image.shape)} of {image.dtype}, of {list(was.shape)}, beside a first source of {height}x{width}"
        require(image.shape == (len(was), factor * height, factor * width) and image.is_floating_point(), found)
        require(image.isfinite().all(), "values that are NaN or infinite")
    if isinstance(source, dict):
        enlarged = source["labels"].repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        _require_aligned(enlarged, target, "one of several sources, a label map, and a target that showed the same")
    for mask in masks:
        require(mask.min() >= 0 and mask.max() <= 1, f"weights from {mask.min():g} to {mask.max():g}")
        _require_aligned(mask, target, "a mask and the target that it was made of")


def _each_image(sample: Sequence[Any]) -> list[Tensor]:
    source, *others = sample
    return [*(source.values() if isinstance(source, dict) else [source]), *others]


def _require_aligned(shown: Tensor, target: Tensor, of: str) -> None:
    values = torch.stack([shown.as_subclass(Tensor)[0].flatten(), target.as_subclass(Tensor).mean(0).flatten()])
    correlation = float(torch.corrcoef(values)[0, 1].abs())
    require(correlation >= ALIGNED, f"{of}, with a correlation of {correlation:.2f}")


CHECKS = (
    gives_two_images, follows_the_seed, changes_nothing, keeps_labels, moves_both_alike,
    takes_several_sources_and_masks,
)  # fmt: skip
