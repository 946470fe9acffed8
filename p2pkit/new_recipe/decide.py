"""What a recipe for these images, this machine and a short time says, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil
import tomlkit
import torch

from p2pkit.data.splitting import FEWEST as FEWEST_TO_SPLIT
from p2pkit.errors import counted
from p2pkit.new_recipe.look import MOST_CLASSES, Look, Side

PAPER_CROP, PAPER_LOAD = 256, 286
CPU_STEPS = {32: 5000, 64: 4000, 96: 2500, 128: 1700}
"""Crops that a CPU trains on, and about how many steps two cores make of these in the time that they have."""
CPU_TIME = "4m30s"
"""With half a minute before it for looking at the folder, five minutes."""
GPU_STEPS, GPU_EPOCHS, FEWEST_EPOCHS = 200_000, 200, 10
SMALLEST_FOR_70 = 96
MANY = 5000
"""Of so many pairs a GPU takes four at a time, as the paper does with its large data sets."""
LARGE = 2_000_000
"""Pixels of an image that takes longer to decode than a small network to train on a crop of it."""
SAME = 0.02
"""By so much two ratios of width to height may differ and still be one."""
SHARE_OF_MEMORY = 4


class Machine(NamedTuple):
    """What a run may use."""

    gpu: str
    """What messages call it; empty without one."""
    cores: int
    free: int
    """Bytes of memory."""

    @classmethod
    def this(cls, device: str | None = None) -> Machine:
        """The one that this runs on, where a run is to be on ``device``, or on the best there is."""
        gpu = "a CUDA GPU" if torch.cuda.is_available() else "an Apple GPU" * torch.backends.mps.is_available()
        return cls("" if device == "cpu" else gpu, psutil.cpu_count() or 1, psutil.virtual_memory().available)


class Choice(NamedTuple):
    """A key of a recipe, its value, and why it has it; a remark in its section where it has no key."""

    section: str
    key: str
    value: Any
    why: str
    doubtful: bool = False
    """Whether it may not be as it is meant."""

    @property
    def shown(self) -> str:
        """The value as TOML."""
        return str(tomlkit.item(self.value).as_string())


def decide(look: Look, machine: Machine, share: float) -> list[Choice]:
    """All that a recipe says beside which files are pairs; ``share`` of the train set can be the val set."""
    crop, load = _sizes(look, machine)
    return [
        *_data(look, share), *_sides(look), *_loader(look, machine), *_transform(look, machine, crop, load),
        *_networks(look, machine, crop), *_train(look, machine, crop),
        *_validation(machine, measured=bool(share or look.counts["val"] or look.counts["test"])),
    ]  # fmt: skip


Choices = Iterator[Choice]


def _sizes(look: Look, machine: Machine) -> tuple[int, int]:
    """The crop that is trained on, of sources, and what images are resized to before that."""
    smallest, most = look.source.smallest, PAPER_CROP if machine.gpu else max(CPU_STEPS)
    most = max(min(CPU_STEPS), most // max(1, look.scale) // 32 * 32)
    wanted = next((size for size in (*CPU_STEPS, PAPER_CROP) if size >= smallest), PAPER_CROP)
    crop = min(most, wanted)
    load = round(crop * PAPER_LOAD / PAPER_CROP)
    return crop, load if smallest >= load and not _differing_aspects(look) else crop


def _differing_aspects(look: Look) -> bool:
    """Whether images are not squares, so that resizing them to one would distort them."""
    low, high = look.source.aspect
    return bool(look.scale) and (low < 1 - SAME or high > 1 + SAME)


def _remark(section: str, why: str, doubtful: bool = True) -> Choice:
    return Choice(section, "", None, why, doubtful)


def _data(look: Look, share: float) -> Choices:
    if look.counts["val"]:
        return
    if look.counts["test"]:
        yield _remark(
            "data",
            "there is no val set: metrics are taken on the test set, and are optimistic for what is chosen by them",
        )
    elif share:
        why = "no val and no test set: this share of pairs is not trained on, but measured on"
        yield Choice("data", "split", share, why)
    else:
        few = f"{look.counts['train']} training pairs, and a val set is taken from {FEWEST_TO_SPLIT} or more"
        yield _remark("data", f"no metrics are taken: there are {few}. Set split = 0.2, or make a folder val")


def _sides(look: Look) -> Choices:
    for name, side in look.sides.items():
        labels = side.classes if name == "source" else None
        if labels is None:
            yield from _channels(name, side)
        if side.dtypes.keys() - {"uint8"}:
            yield _remark(
                name,
                f"values {side.low:g} to {side.high:g} were found in some of the {name}s; what the training set holds "
                "becomes -1 to 1, and what is beyond is clipped: range = [low, high] sets it",
                doubtful=len(side.dtypes) > 1,
            )
        yield from _labels(name, side)


def _channels(name: str, side: Side) -> Choices:
    """What is taken of channels that differ from file to file, or of which one is alpha."""
    channels = sorted(side.channels)
    if len(channels) > 1 and channels[-1] <= 4:
        kind, found = "rgb" if channels[-1] > 2 else "gray", " or ".join(map(str, channels))
        yield Choice(name, "channels", kind, f"files have {found} channels; all become {kind}", True)
    if {2, 4} & set(channels) and set(side.dtypes) == {"uint8"}:
        behind, what = ("drop", "is opaque everywhere") if side.opaque else ("white", "is not opaque everywhere")
        four = f'channels = "first {channels[-1]}" in place of this'
        why = f"the last of {channels[-1]} channels is taken for alpha, which {what}; if it is not alpha: {four}"
        yield Choice(name, "alpha", behind, why, True)


def _labels(name: str, side: Side) -> Choices:
    numbers, found = sorted(side.numbers.pixels), side.classes
    if found and name == "source":
        classes, void = found
        what = f"sources are label maps: whole numbers from 0 to {classes - 1} in flat areas, {len(numbers)} were found"
        yield Choice("encoding", "name", "one_hot", f"{what}. If they are shades of gray, leave [encoding] out", True)
        yield Choice("encoding", "classes", classes, "as in some of the maps; raise it if there are more")
        if void is not None:
            yield Choice("encoding", "void", void, "is taken for the number of no class")
    elif found:
        yield _remark(
            name,
            f"targets look like label maps of {found[0]} classes. They are made as shades of gray, where classes that "
            "lie between two others may appear: it may be the other direction that is meant",
        )
    elif side.numbers.images and len(numbers) == 2:
        values = f"{side.low:g} and {side.high:g}"
        yield _remark(name, f"{name}s have two values, {values}: taken as black and white, without encoding", False)
    elif side.colours and len(side.colours) <= MOST_CLASSES:
        yield _remark(
            name,
            f"{name}s have {len(side.colours)} colours: taken as pictures. If these are classes, maps with the numbers "
            "of classes in one channel, or in a palette, can be one-hot encoded",
            doubtful=name == "source",
        )


def _loader(look: Look, machine: Machine) -> Choices:
    batch = _batch(look, machine)
    yield Choice("loader", "batch_size", batch, "as in the paper" + " for large data sets" * (batch > 1))
    decoded = f"decoded, all pairs take {as_bytes(look.bytes)}"
    if look.bytes <= machine.free // SHARE_OF_MEMORY:
        yield Choice("loader", "workers", 0, "pairs are kept in memory, and each worker would keep its own")
        yield Choice("loader", "cache", "memory", f"{decoded}, less than a quarter of free memory: each is read once")
    else:
        workers = min(4, max(1, machine.cores - 1)) if machine.gpu else max(1, machine.cores // 2)
        yield Choice("loader", "workers", workers, "processes that decode images while a step is made")
        yield Choice("loader", "cache", "none", f"{decoded}, more than a quarter of free memory")
    pixels = max(height * width for side in look.sides.values() for height, width in side.sizes)
    if pixels > LARGE:
        yield _remark(
            "loader",
            f"images have up to {pixels / 1e6:.0f} million pixels, and decoding them takes most of the time: it pays "
            "to save them smaller, once; of JPEGs transform.reduced_jpeg = true decodes less",
        )
    reasons = [*look.unusable, *look.data.problems]
    if reasons:
        first, count = reasons[0].replace("\n", " "), len(look.unusable)
        what = f"{counted(count, 'pair')} cannot be read" if count else "some files are in no pair"
        yield Choice("loader", "bad_data", "skip", f"{what}, and left out: {first}", True)


def _batch(look: Look, machine: Machine) -> int:
    return 4 if machine.gpu and look.counts["train"] >= MANY else 1


def _transform(look: Look, machine: Machine, crop: int, load: int) -> Choices:
    smallest, aspects = look.source.smallest, _differing_aspects(look)
    where = "the paper's is 286, cropped to 256"
    if not machine.gpu:
        where = f"a CPU trains it in minutes; with a GPU {where}"
    if smallest < crop:
        where += f" (images have {smallest} pixels and more)"
    yield Choice("transform", "load_size", load, where)
    if aspects:
        low, high = look.source.aspect
        what = f"images are {low:.2g} to {high:.2g} times as wide as high" if low < high else "images are not square"
        yield Choice("transform", "keep_aspect", True, f"{what}: their shorter side gets that size")
    elif not look.scale:
        yield _remark(
            "transform", "source and target differ in size: both are resized to one, right where they show the same"
        )
    part = "a random part of the longer side" if aspects else "a random part" if load > crop else "all of an image"
    yield Choice("transform", "crop_size", crop, part)
    yield Choice(
        "transform", "flip", False, "true where mirrored pairs are as good: no writing, no light from one side"
    )


def _networks(look: Look, machine: Machine, crop: int) -> Choices:
    if look.scale > 1:
        yield _remark("generator", f"targets are {look.scale} times as high and wide as sources", False)
    yield Choice("generator", "name", "unet", "the paper's; its depth follows the crop")
    if machine.gpu:
        return
    yield Choice("generator", "width", 32, "half the paper's, for a CPU; with a GPU leave it out, here and below")
    yield Choice("generator", "norm", "instance", "works with one pair at a time")
    yield Choice("generator", "upsampling", "resize", "no checkerboard, however short the run")
    if crop * max(1, look.scale) >= SMALLEST_FOR_70:
        yield Choice("discriminator", "name", "patchgan_70", "the paper's, which looks at 70x70 pixels")
    else:
        yield Choice("discriminator", "name", "patchgan_16", "looks at 16x16 pixels, since images are small")
    yield Choice("discriminator", "width", 32, "")
    yield Choice("discriminator", "norm", "instance", "")


def _train(look: Look, machine: Machine, crop: int) -> Choices:
    if machine.gpu:
        epochs = max(FEWEST_EPOCHS, min(GPU_EPOCHS, GPU_STEPS * _batch(look, machine) // look.counts["train"]))
        yield Choice("train", "epochs", epochs, f"the paper's {GPU_EPOCHS}, or {GPU_STEPS} steps of many pairs")
        yield Choice("train", "checkpoint_every", "5 epochs", "")
        return
    yield Choice("optimizer", "lr", 5e-4, "more than the paper's 2e-4, for a short run; with a GPU leave it out")
    yield Choice("schedule", "name", "linear_decay", "the rate falls to 0, which settles a short run")
    yield Choice("train", "max_steps", CPU_STEPS[crop], "with a GPU epochs = 200 in place of both limits")
    yield Choice("train", "max_time", CPU_TIME, "for all of the run, measuring too; longer is better: raise both")
    yield Choice("train", "sample_every", 250, "")


def _validation(machine: Machine, measured: bool) -> Choices:
    if measured:
        what = "metrics are mae, psnr and ssim, and lpips where its weights are at hand; [[metrics]] names others"
        yield _remark("validation", what, False)
    if machine.gpu and measured:
        yield Choice("validation", "every", "10 epochs", "the best is kept as best.safetensors")
    elif measured:
        yield Choice("validation", "max_images", 50, "measured once, at the end; a run of minutes has no time for more")


def as_bytes(count: int) -> str:
    """A number of bytes, in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
