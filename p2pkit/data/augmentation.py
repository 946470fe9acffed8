"""Samples as tensors: normalized, for training resized, augmented, cropped, flipped; validation only resizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from p2pkit import contracts
from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader, ValueRange
from p2pkit.errors import DataError, RecipeError, counted, in_one_line
from p2pkit.images.pixels import Reading, Remedies, normalize, nothing_there
from p2pkit.networks.bicubic import Window
from p2pkit.networks.encoding import SourcePart, resize_sources, split_sources
from p2pkit.networks.fitting import as_size, resize, resize_mask
from p2pkit.settings import TransformSettings, height_width
from p2pkit.utils.seeds import derived, seeded

PURPOSE = "jitter"
"""What crops and flips are derived for; another text would be other ones for the same seed."""
JITTER = 0.75
"""Crops of no less than this share of what they are cut from show things at the scale of the whole (the paper: 256 of
286)."""
SAME_ASPECT = 0.02
"""By so much two aspect ratios may differ, as a share, and still be one."""


class Tensors(NamedTuple):
    """A sample as tensors: source [Cs, H, W] and target [Ct, H, W] in [-1, 1], weights [1, H, W] if it has a mask."""

    source: Tensor
    """Several sources lie one after another along the channels."""
    target: Tensor
    """Of the size of the source, or of a whole multiple."""
    mask: Tensor | None = None
    """How much each pixel of the target counts, from 0 to 1."""


class SampleSpec(NamedTuple):
    """What samples have in common: the ``first`` one, whose channels all have, and how their values are read."""

    first: SampleHeader
    sides: Mapping[str, tuple[ValueRange | None, Reading]]
    """By side ("source", or "source.NAME" for each of several, and "target"): the range that becomes [-1, 1], None for
    that of the pixels' type."""
    mask_range: ValueRange | None = None
    """The stored values of masks that weigh 0 and 1; None for 0 and the highest of their type."""
    has_mask: bool = False
    """Whether samples have weights: from images, or from values that mean "nothing here"."""
    scale: int = 1
    """How many times as high and wide as sources the targets are."""
    to_one_size: bool = False
    """Whether all are resized to one size, so that the two images of a pair may differ in theirs."""

    def tensors(self, sample: Sample, measured: bool = False) -> Tensors:
        """The images of a sample as tensors; where it has one alone, that one twice.

        Where it is to be ``measured`` it has weights as soon as its target lacks values, whatever stands there.

        Raises:
            DataError: they differ in size, or in channels from those of the first pair, or a value cannot be mapped.
        """
        refuse_unlike(sample.header, self.first, self.to_one_size)
        tensors: list[Tensor] = []
        for side, (values, reading) in self.sides.items():
            # as Sample.image has it, without a call for what nearly every recipe has
            image = getattr(sample, side) if side in Sample._fields else sample.image(side)
            if image is not None:
                tensors.append(normalize(image, f"{sample.key}, its {side.replace('.', ' ')}", values, reading))
        source, target = joined(tensors, sample.target is not None)
        with_weights = self.has_mask or (measured and self.sides["target"][1].fill is not None)
        weights = self._weights(sample, measured, target) if with_weights else None
        # whatever stands where nothing counts, nobody is to see it: a discriminator, or what looks at neighbourhoods
        return Tensors(source, target if weights is None else target.where(weights > 0, 0.0), weights)

    def _weights(self, sample: Sample, measured: bool, target: Tensor) -> Tensor | None:
        """How much each pixel of the target counts [1, H, W]; None where all count and no mask is asked for."""
        weights = torch.ones(1, *target.shape[1:])
        if sample.mask is not None:
            weights = as_weights(sample.mask, f"{sample.key}, its mask", self.mask_range)
        missing = False
        for side, (_, reading) in self.sides.items():
            if reading.masked or (measured and side == "target" and reading.fill is not None):
                image: Any = sample.image(side)
                if image is not None and (where := nothing_there(image, reading.nodata)) is not None:
                    missing, there = True, torch.from_numpy(~where.any(axis=2)).float()[None]
                    factor = weights.shape[1] // there.shape[1]
                    weights = weights * there.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        return weights if missing or self.has_mask else None


def joined(images: Sequence[Tensor], has_target: bool) -> tuple[Tensor, Tensor]:
    """Source and target of the images of a sample, in the order of its sides: several sources one after another."""
    sources = images[:-1] if has_target and len(images) > 1 else images
    return sources[0] if len(sources) == 1 else torch.cat(tuple(sources)), images[-1]


def as_weights(mask: NDArray[Any], key: str, values: ValueRange | None = None) -> Tensor:
    """A mask [H, W, C] as stored as weights [1, H, W] from 0 to 1; raises DataError, beginning with ``key``."""
    if values is None and mask.dtype.kind in "iu" and mask.dtype.itemsize <= 4:
        values = 0.0, float(np.iinfo(mask.dtype).max)
    return (normalize(mask_values(mask, key), key, values, remedies=Remedies("set mask.range")) + 1) / 2


def mask_values(mask: NDArray[Any], key: str) -> NDArray[Any]:
    """The one channel [H, W, 1] of a mask [H, W, C] as stored, which may be gray saved as RGB, and have alpha.

    Raises:
        DataError: its channels differ, or some of its values are NaN or infinite; the message begins with ``key``.
    """
    with_alpha = mask.shape[2] in (2, 4)
    colours = np.asarray(mask[:, :, :-1] if with_alpha else mask)
    if with_alpha and (np.asarray(mask[:, :, -1]) != mask[0, 0, -1]).any():
        raise DataError(f"{key}: its alpha differs from pixel to pixel; save weights as one channel, without alpha")
    if mask.shape[2] > 4 or (colours != colours[:, :, :1]).any(where=colours == colours):
        found = f"it has {counted(mask.shape[2], 'channel')}, which differ"
        raise DataError(f"{key}: {found}; a mask is one channel of weights, so save it as gray")
    if count := int(np.count_nonzero(~np.isfinite(colours))):
        raise DataError(f"{key}: {count} of its values are not finite (NaN or infinite); 0 is what counts nothing")
    return colours[:, :, :1]


def scale_of(first: SampleHeader) -> int:
    """How many times as high and wide as its source a target is; 0 where it is not a whole multiple."""
    (height, width, _), target = first.source, first.target[:2]
    # sources without pixels are refused where they are read
    scale = max(1, target[0] // max(1, height))
    return scale if target == (scale * height, scale * width) else 0


def refuse_unlike(sample: SampleHeader, first: SampleHeader, to_one_size: bool = False) -> None:
    """Raise DataError when a sample is unlike the ``first`` in its sources, channels, mask, or relation of sizes.

    The last does not count where all are resized ``to_one_size``.
    """
    if sample.parts != first.parts and NO_IMAGE not in (sample.source, first.source):
        found, expected = (", ".join(f"{name} {count}" for name, count in each.parts) for each in (sample, first))
        tables = ", ".join(f"[source.{name}]" for name, _ in first.parts)
        order = f", or the recipe give the order: {tables}" if sorted(sample.parts) == sorted(first.parts) else ""
        raise DataError(
            f"{sample.key}: its sources, with their channels, are {found or 'one without a name'}, those of "
            f"{first.key} {expected or 'one without a name'}; all samples of a data set must agree{order}"
        )
    for side in ("source", "target"):
        found, expected = getattr(sample, side)[2], getattr(first, side)[2]
        if found not in (expected, NO_IMAGE[2]):
            raise DataError(
                f"{sample.key}: its {side} has {counted(found, 'channel')}, that of {first.key} has {expected}; "
                "all pairs of a data set must agree"
            )
    if NO_IMAGE in sample[:2] or NO_IMAGE in first[:2]:
        return
    (height, width, _), target = sample.source, sample.target[:2]
    scale = scale_of(first) or 1
    if target != (scale * height, scale * width) and not to_one_size:
        wanted = f", expected a target {scale} times as high and wide" if scale > 1 else ""
        raise DataError(
            f"{sample.key}: source and target differ in size (height x width): {height}x{width} and "
            f"{target[0]}x{target[1]}{wanted}; where they show the same, resize both by "
            f"transform.load_size = {as_size((height, width))}, without keep_aspect"
        )
    if sample.mask[:2] != (target if first.mask != NO_IMAGE else NO_IMAGE[:2]):
        sizes = "{}x{}".format(*sample.mask[:2]) if sample.mask != NO_IMAGE else "not there"
        wanted = "of {}x{}, its target's size".format(*target) if first.mask != NO_IMAGE else "none, as others"
        raise DataError(f"{sample.key}: its mask is {sizes}; expected {wanted} (height x width)")


class Sizes(NamedTuple):
    """The (height, width) that images of some size are resized to in training, of their crops, and of test images."""

    loaded: tuple[int, int]
    crop: tuple[int, int]
    test: tuple[int, int]


class NamedAugmentation(NamedTuple):
    """An augmentation, and what messages call it."""

    origin: str
    augment: contracts.Augmentation


@dataclass(frozen=True)
class Augmentation:
    """Resizes, augments, crops and flips the images of a sample alike; each source may have a resampling of its own.

    What is drawn for a sample is a function of the seed and of ``draw``, its epoch and index: it depends neither on how
    many workers or processes there are nor on where a run was interrupted.
    """

    settings: TransformSettings
    seed: int
    parts: Sequence[SourcePart] = ()
    """The sources, whose channels lie one after another; none stands for a single one, resampled bicubically."""
    augmentations: Sequence[NamedAugmentation] = ()
    """The recipe's, in its order."""
    scale: int = 0
    """How many times as high and wide as sources targets become; 0 for what each sample's sizes say."""

    def train(self, sample: Tensors, draw: Sequence[int | str], key: str) -> Tensors:
        """Resize to the load size, augment, crop at random, flip at random. Sizes are those of sources.

        Raises:
            DataError: the image, called ``key``, is smaller than the crop.
            RecipeError: an augmentation fails, or gives other than images of their size.
        """
        size = sample.source.shape[1], sample.source.shape[2]
        self.refuse_smaller_than_crop(size, key)
        scale, loaded = self.scale or sample.target.shape[1] // size[0], self.sizes(size).loaded
        generator = torch.Generator().manual_seed(derived(self.seed, PURPOSE, *draw))
        down, right, mirror = torch.rand(3, generator=generator).tolist()
        with _one_thread():
            if self.augmentations:
                sample = self._augmented(self._resized(sample, loaded), scale, draw, key)
                loaded = sample.source.shape[1], sample.source.shape[2]
            # a crop is all that is computed of a resized image
            sample = self._resized(sample, loaded, self._crop(loaded, down, right))
        if self.settings.flip and mirror < 0.5:
            source, target, mask = sample
            sample = Tensors(source.flip(-1), target.flip(-1), mask if mask is None else mask.flip(-1))
        return sample

    def _crop(self, loaded: tuple[int, int], down: float, right: float) -> Window | None:
        """What is cropped from images of the size ``loaded``, at the place that was drawn in [0, 1); None for all."""
        if self.settings.crop_size is None:
            return None
        height, width = height_width(self.settings.crop_size)
        # all positions are equally likely
        return Window(int(down * (loaded[0] - height + 1)), int(right * (loaded[1] - width + 1)), height, width)

    def test(self, sample: Tensors) -> Tensors:
        """Resize sources to the size for tests (see :meth:`sizes`), at which things look as in training.

        Targets and masks keep their relation to that.
        """
        return self._resized(sample, self.sizes((sample.source.shape[1], sample.source.shape[2])).test)

    def _resized(self, sample: Tensors, size: tuple[int, int], window: Window | None = None) -> Tensors:
        """Sources at ``size``, targets and masks in their relation to that; of all of them a ``window`` alone."""
        scale, parts = self.scale or sample.target.shape[1] // sample.source.shape[1], self.parts
        of_target, within = (scale * size[0], scale * size[1]), window and window.times(scale)
        mask = None if sample.mask is None else resize_mask(sample.mask, of_target)
        mask = mask if mask is None or within is None else within.of(mask)
        if len(parts) > 1:
            source = resize_sources(sample.source, size, parts, window)
        else:
            source = resize(sample.source, size, parts[0].resampling if parts else "bicubic", window)
        return Tensors(source, resize(sample.target, of_target, window=within), mask)

    def sizes(self, size: tuple[int, int]) -> Sizes:
        """What images of ``size``, (height, width), are resized to in training and for tests, and cropped to.

        Test images are resized as training images are: not at all, by the factor that keeps the aspect, or to the load
        size; but to the crop size where the crop is the paper's jitter, nearly all of the image in its aspect (Isola
        et al. 2017, section 6.2: trained on crops of 256 from 286, tested at 256).
        """
        loaded = size if self.settings.load_size is None else height_width(self.settings.load_size)
        if self.settings.keep_aspect:
            factor = max(loaded[0] / size[0], loaded[1] / size[1])
            loaded = max(loaded[0], round(factor * size[0])), max(loaded[1], round(factor * size[1]))
        if self.settings.crop_size is None:
            return Sizes(loaded, loaded, loaded)
        crop = height_width(self.settings.crop_size)
        down, across = crop[0] / loaded[0], crop[1] / loaded[1]
        jitter = min(down, across) >= JITTER and abs(down / across - 1) <= SAME_ASPECT
        at_crop = jitter and self.settings.load_size is not None and not self.settings.keep_aspect
        return Sizes(loaded, crop, crop if at_crop else loaded)

    def refuse_smaller_than_crop(self, size: tuple[int, int], key: str) -> None:
        """Raise DataError, beginning with ``key``, when nothing can be cropped out of images of (height, width)."""
        loaded, crop, _ = self.sizes(size)
        if loaded[0] < crop[0] or loaded[1] < crop[1]:
            by, remedy = "is", "set transform.load_size"
            if self.settings.load_size is not None:
                by, remedy = "becomes, by transform.load_size,", "raise transform.load_size"
            raise DataError(
                f"{key}: the image {by} {loaded[0]}x{loaded[1]} (height x width), smaller than transform.crop_size "
                f"{crop[0]}x{crop[1]}; lower that, or {remedy}"
            )

    def _augmented(self, sample: Tensors, scale: int, draw: Sequence[int | str], key: str) -> Tensors:
        """What the recipe's augmentations make of the images of a sample."""
        images, several = Tensors((sample.source + 1) / 2, (sample.target + 1) / 2, sample.mask), len(self.parts) > 1
        for position, (origin, augment) in enumerate(self.augmentations):
            wrapped = {}
            for part in self.parts:
                wrap = tv_tensors.Mask if part.resampling == "nearest" else tv_tensors.Image
                wrapped[part.name] = wrap(split_sources(images.source, self.parts)[part.name])
            source: Any = wrapped if several else next(iter(wrapped.values()), tv_tensors.Image(images.source))
            masks = () if images.mask is None else (tv_tensors.Mask(images.mask),)
            with seeded(derived(self.seed, "augmentation", position, *draw)):
                try:
                    made: Any = augment(source, tv_tensors.Image(images.target), *masks)
                except Exception as error:
                    more = _not_taken(several, bool(masks))
                    raise RecipeError(f"{origin} fails on {key}: {in_one_line(error)}{more}") from error
            if several and isinstance(made, tuple | list) and made and isinstance(made[0], dict):
                if wrong := _unlike_parts(made[0], self.parts):
                    raise RecipeError(f"{origin} gives sources {wrong}, for {key}")
                made = torch.cat([made[0][name] for name in wrapped]), *made[1:]
            if problem := _problem(made, images, scale, height_width(self.settings.crop_size or 1)):
                raise RecipeError(f"{origin} gives {problem}, for {key}")
            images = Tensors(*(image.detach().as_subclass(Tensor).float().clamp(0.0, 1.0) for image in made))
        return Tensors(images.source * 2 - 1, images.target * 2 - 1, images.mask)


def _unlike_parts(sources: Mapping[str, Any], parts: Sequence[SourcePart]) -> str:
    """What is wrong with several sources by name that an augmentation gives; empty where nothing is."""
    shapes = {part.name: tuple(getattr(sources.get(part.name), "shape", ())) for part in parts}
    one_size = len({shape[1:] for shape in shapes.values()}) == 1
    if one_size and all(len(shapes[part.name]) == 3 and shapes[part.name][0] == part.channels for part in parts):
        return ""
    found = ", ".join(f"{name} {list(shape)}" if shape else f"without {name}" for name, shape in shapes.items())
    expected = ", ".join(f"{part.name} [{part.channels}, H, W]" for part in parts)
    return f"of shapes {found} where {expected} of one size are expected"


def _not_taken(several: bool, with_mask: bool) -> str:
    """What an augmentation has to take that may be news to it."""
    news = [*(["a dict of sources by name"] if several else []), *(["a mask after the target"] if with_mask else [])]
    return f"; here it is given {' and '.join(news)}" if news else ""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, as a worker does: the last bits of a sum depend on how many threads share it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _problem(made: Any, before: Tensors, scale: int, crop: tuple[int, int]) -> str:
    """What is wrong with what an augmentation has made of a sample's images; empty where nothing is."""
    names = ("source", "target", "mask")[: 2 if before.mask is None else 3]
    if not isinstance(made, tuple | list) or len(made) != len(names) or not all(map(torch.is_tensor, made)):
        listed = "two images, source and target," if len(names) == 2 else "source, target and mask"
        return f"{type(made).__name__} where {listed} are expected"
    for side, image, given in zip(names, made, filter(torch.is_tensor, before), strict=True):
        if image.ndim != 3 or len(image) != len(given) or not image.is_floating_point():
            return f"a {side} {list(image.shape)} of {image.dtype} where floats [{len(given)}, H, W] are expected"
        if not image.isfinite().all():
            return f"a {side} with values that are NaN or infinite"
    sizes = ["{}x{}".format(*image.shape[1:]) for image in made]
    height, width = made[0].shape[1:]
    for side, image, size in zip(names[1:], made[1:], sizes[1:], strict=True):
        if image.shape[1:] != (scale * height, scale * width):
            wanted = "one size is expected" if scale == 1 else f"{scale} times the source's size is expected"
            return f"a source of {sizes[0]} and a {side} of {size} (height x width) where {wanted}"
    if height < crop[0] or width < crop[1]:
        return f"images of {sizes[0]} (height x width), smaller than transform.crop_size {crop[0]}x{crop[1]}"
    return ""
