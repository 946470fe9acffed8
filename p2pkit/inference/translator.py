"""A model file as a function from image to image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from p2pkit.components.host import manager
from p2pkit.contracts import NO_IMAGE, Normalisation, SampleHeader, Shape
from p2pkit.data.augmentation import Augmentation
from p2pkit.distributed.accelerator import choose_device
from p2pkit.errors import DataError, ModelFileError, P2PKitError, counted
from p2pkit.images.pictures import image_pixels, to_pillow
from p2pkit.images.pixels import not_an_image, refuse_unclear
from p2pkit.images.reading import read_image
from p2pkit.images.region_writing import ArraySink
from p2pkit.images.regions import Regions
from p2pkit.images.volumes import is_volume
from p2pkit.inference.in_memory import finished, ready
from p2pkit.inference.model_file import find_model, read_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.odd_sources import OddSources, Pixels, Seen
from p2pkit.inference.policy import Corner, Policy, infer, noise_seeds
from p2pkit.inference.rebuilding import rebuild
from p2pkit.inference.sources import Source, StoredAs, one_to_tensor, part_for, regions_of, twice_as_wide
from p2pkit.inference.statistics import ImageStatistics
from p2pkit.inference.tiled import translate_tiled
from p2pkit.inference.tiles import Tiling
from p2pkit.networks.encoding import SourceEncoding, SourcePart, resize_sources
from p2pkit.networks.fast_convolutions import speed_up_convolutions
from p2pkit.networks.fitting import resize
from p2pkit.settings import TransformSettings
from p2pkit.utils.progress import print_line
from p2pkit.utils.tensor_file import checksum

if TYPE_CHECKING:
    from p2pkit.inference.files import FileOptions, Report


Precision = Literal["no", "bf16", "fp16"]
PRECISIONS: Mapping[Precision, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


Size = Literal["source", "model", "native"]
"""Where a model resizes sources: whether outputs are resized back, stay at the model's size, or neither is resized."""


class Translator:
    """Translates images with one generator.

    Called with a path it gives a PIL image; called with a PIL image, an array [H, W, C] or [H, W] as stored, or a
    tensor [C, H, W] or [N, C, H, W] in [-1, 1], it gives back the same kind; called with a list, a list of these.
    Several sources are a dict of these by name; tensors are one after another along the channels too.
    Sources are resized as in training, and outputs back to the size of each source; tensors are taken as they are. A
    model of larger targets gives ``header.scale`` times these sizes.
    ``precision`` is that of the network's arithmetic: float32, or mixed with bf16, or with fp16 (on GPUs alone).
    """

    def __init__(self, generator: nn.Module, header: ModelHeader, policy: Policy, precision: Precision = "no") -> None:
        self.generator, self.header, self.policy, self.precision = generator, header, policy, precision
        self._reported: set[str] = set()

    def __repr__(self) -> str:
        header, sources = self.header, list[str]()
        for one in header.each_source:
            low, high = one.values
            sources.append(
                f"{one.name} {counted(one.channels, 'channel')} of {one.dtype} ({low:g} to {high:g})".strip()
            )
        policy = f"batch norm by {self.policy.norm!r}, {'with' if self.policy.dropout else 'without'} noise"
        resized = f", resized to {self.trained_at}" if header.resize else ""
        larger = f" at {header.scale} times the size" if header.scale > 1 else ""
        made = f"{header.picture_channels} of {header.target_dtype}{larger}"
        return (
            f"<Translator {header.generator!r} of {header.distribution} {header.distribution_version}, step "
            f"{header.step}: {', '.join(sources)}{resized} -> {made}, {policy}>"
        )

    def __call__(
        self, image: Any, seed: int = 0, tile: int | None = None, overlap: int | None = None,
        size: Size | None = None, stored_as: StoredAs | None = None,
    ) -> Any:  # fmt: skip
        """The translation of ``image``; ``seed`` draws its noise, the same for the same seed in any company.

        With ``tile`` it is translated in tiles of so many pixels that ``overlap`` by so many (None: an eighth); tensors
        are not. ``size`` is "source", "model" or "native" (see ``p2pkit translate --size``); None is "source", or
        "native" for tiles. ``stored_as`` says what a path leads to: an "image", "side_by_side" images of which one is
        the source, as in training, or the source at the "left" or "right"; None goes by the model file and the shape of
        the image.

        Raises:
            DataError: the image cannot be read, or has another number of channels than the model takes.
        """
        if isinstance(image, list | tuple):
            return [self(one, seed, tile, overlap, size, stored_as) for one in image]
        if isinstance(image, Mapping) and self.header.sources:
            return self._of_several(image, seed, tile, overlap, size)
        tiling = None if tile is None else Tiling.chosen(self.generator, tile, overlap)
        if isinstance(image, Tensor) and tiling is None:
            if size in ("source", "model"):
                raise DataError(f'size = "{size}": a tensor is taken as it is; resize it, or give an array')
            return self.tensor(image, seed) if image.ndim == 4 else self.tensor(image[None], seed)[0]
        chosen = self.chosen_size(size, tiled=tiling is not None)
        if stored_as is not None and not isinstance(image, str | Path):
            raise DataError(f'stored_as = "{stored_as}": that is of files; an image itself is the source')
        if isinstance(image, str | Path):
            source = self._source_in(Path(image), stored_as)
            if tiling is None:
                return to_pillow(self.pixels(source.pixels(), source.name, seed, None, chosen))
            return to_pillow(self.of_tiles(source.regions(), source.name, seed, tiling))
        if isinstance(image, Image.Image):
            return to_pillow(self.pixels(image_pixels(image), "the image", seed, tiling, chosen))
        if isinstance(image, np.ndarray):
            flat = image.ndim == 2
            refuse_unclear(image, "the image is an array")
            pixels = self.pixels(image[:, :, None] if flat else image, "the array", seed, tiling, chosen)
            return pixels[:, :, 0] if flat and pixels.shape[2] == 1 else pixels
        expected = "a path, a PIL image, an array" + (
            " or a tensor" if tiling is None else ", to be translated in tiles"
        )
        raise DataError(f"an image must be {expected}; found {type(image).__name__}")

    def _of_several(
        self, images: Mapping[str, Any], seed: int, tile: int | None, overlap: int | None, size: Size | None
    ) -> Any:
        """The translation of several sources by name; an array where all of them are arrays, else a PIL image."""
        pixels, kinds = {}, {type(image) for image in images.values()}
        for name, image in images.items():
            if isinstance(image, str | Path):
                pixels[name] = read_image(Path(image))
            elif isinstance(image, Image.Image):
                pixels[name] = image_pixels(image)
            elif isinstance(image, np.ndarray):
                refuse_unclear(image, f"the source {name} is an array")
                pixels[name] = image[:, :, None] if image.ndim == 2 else image
            else:
                expected = "a path, a PIL image or an array; give tensors as one, along the channels"
                raise DataError(f"the source {name} must be {expected}; found {type(image).__name__}")
        tiling = None if tile is None else Tiling.chosen(self.generator, tile, overlap)
        made = self.pixels(pixels, "the images", seed, tiling, self.chosen_size(size, tiled=tiling is not None))
        return made if kinds == {np.ndarray} else to_pillow(made)

    def _source_in(self, file: Path, stored_as: StoredAs | None) -> Source:
        """The source in a file. Tells what was made of a file in which two images seem to stand side by side."""
        if self.header.planes is not None and is_volume(file):
            raise DataError(f'{file}: this is a volume; translate.files(["{file.name}"], "out") makes a volume of it')
        part = part_for(self.header, file, stored_as)
        if part and stored_as is None:
            self.report(
                f"NOTICE: {file}: taken as two images side by side, as in training, of which the {part} is the "
                'source; stored_as = "image" takes it whole'
            )
        elif stored_as is None and twice_as_wide(self.header, file):
            self.report(
                "NOTICE: a file is twice as wide as training sources were, as where two images stand side by side; it "
                'is translated as one image, stored_as = "left" or "right" takes a half'
            )
        return Source.of_file(file, file, part)

    def report(self, message: str) -> None:
        """Print a message that concerns what is translated, each one once."""
        if message not in self._reported:
            self._reported.add(message)
            print_line(message)

    def files(
        self, inputs: Sequence[str | Path] | Mapping[str, str | Path], out: str | Path,
        options: FileOptions | None = None,
    ) -> Report:  # fmt: skip
        """Translate files and folders into ``out``, as ``p2pkit translate`` does; by name for several sources.

        Raises:
            DataError: an input is missing, a folder holds no images, or the generator takes no such tiles.
            WriteError: the disk is full, or writing is not allowed.
        """
        from p2pkit.inference.files import FileOptions, translate_files

        given: Any = {name: Path(path) for name, path in inputs.items()} if isinstance(inputs, Mapping) else inputs
        given = given if isinstance(given, dict) else [Path(each) for each in given]
        return translate_files(self, given, Path(out), options or FileOptions())

    def pixels(
        self, source: Pixels, key: str, seed: int = 0, tiling: Tiling | None = None, size: Size = "source"
    ) -> NDArray[Any]:
        """The translation of pixels [H, W, C] as stored, in the target's type; ``key`` names them in messages."""
        if tiling is not None:
            return self.of_tiles(regions_of(source, key), key, seed, tiling)
        prepared = ready(self, source, key, size)
        return finished(self, prepared, self.tensor(prepared.trained[None], seed)[0])

    def chosen_size(self, size: Size | None, tiled: bool = False) -> Size:
        """What ``size`` means for this model: "native" wherever nothing is resized. Tells what tiles differ in.

        Raises:
            DataError: tiles are to be of resized images.
        """
        if self.header.resize is None:
            return "native"
        if tiled and size is None:
            self.report(
                f"NOTICE: tiles are of images at their own size, while training saw them resized to {self.trained_at}: "
                "things may be of another scale than the model knows"
            )
        elif tiled and size != "native":
            raise DataError(
                f'size "{size}" with tiles: tiles are of images at their own size, and this model resizes them to '
                f'{self.trained_at}; leave out the tiles, or take the size "native"'
            )
        return "native" if tiled else size or "source"

    def tell_resizing(self, size: Size) -> None:
        """Tell that sources are resized, and to what."""
        times = f"{self.header.scale} times " if self.header.scale > 1 else ""
        to = f"back to {times}each source's size" if size == "source" else f"stay at {times}that size"
        self.report(f"sources are resized to {self.trained_at}, as in training, outputs {to} (--size)")

    def tell_enlarging(self) -> None:
        """Tell that outputs are larger than sources, and what they are without for that."""
        self.report(
            f"NOTICE: outputs are {self.header.scale} times as high and wide as sources, so what describes a source "
            "file (its place on earth, its resolution) does not go along"
        )

    @property
    def trained_at(self) -> str:
        """The size that sources are resized to, in words."""
        resizing = self.header.resize
        assert resizing is not None
        size = "{}x{} (height x width)".format(*resizing.size)
        return f"cover {size} in their aspect" if resizing.keep_aspect else size

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((weight.device for weight in self.generator.parameters()), torch.device("cpu"))

    @property
    def batched(self) -> bool:
        """Whether images go through the network together."""
        # the last bits of a convolution depend on how many images it is given, on a CPU
        return self.policy.norm == "batch" or self.device.type != "cpu"

    @cached_property
    def parts(self) -> Sequence[SourcePart]:
        """What the sources are, in the order of their channels, each with its encoding, if it has one, on the CPU."""
        encoding = deepcopy(getattr(self.generator, "encoding", None))
        encodings: list[Any] = list(encoding.encodings) if isinstance(encoding, SourceEncoding) else [encoding]
        parts = []
        for index, one in enumerate(self.header.each_source):
            own = encodings[index] if len(encodings) > index else None
            own = None if own is None or isinstance(own, nn.Identity) else own.cpu()
            resampling: Any = one.reading.resampling or getattr(own, "resampling", "bicubic")
            parts.append(SourcePart(one.name, one.channels, resampling, own))
        return parts

    def to_trained_size(self, source: Tensor, size: Size = "source") -> Tensor:
        """A source [C, H, W] in [-1, 1], resized as for validation; as it is for "native"."""
        resizing = self.header.resize
        if resizing is None or size == "native":
            return source
        # the very rule of validation
        settings = TransformSettings(load_size=resizing.size, keep_aspect=resizing.keep_aspect)
        sizes = Augmentation(settings, 0).sizes((source.shape[1], source.shape[2]))
        return resize_sources(source, sizes.test, self.parts)

    def from_trained_size(self, output: Tensor, source: Sequence[int], size: Size = "source") -> Tensor:
        """An output [C, h, w] in [-1, 1], resized to fit the (height, width) of its ``source`` for "source" alone."""
        height, width, _ = self.output_shape(source)
        return resize(output, (height, width)) if size == "source" else output

    def output_shape(self, source: Sequence[int]) -> tuple[int, int, int]:
        """(height, width, channels) of the output that fits a source of (height, width): ``header.scale`` times it."""
        scale = self.header.scale
        return scale * source[0], scale * source[1], self.header.picture_channels

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all in the model file that outputs depend on: weights, and what the header says of using them."""
        about = {"policy", "recipe", "data", "step", "metrics", "drawings"}
        weights = {name: value.detach().cpu() for name, value in self.generator.state_dict().items()}
        return checksum(weights, self.header.model_dump_json(exclude=about))

    def of_tiles(
        self, source: Regions, key: str, seed: int, tiling: Tiling, watch: Callable[[float], None] | None = None
    ) -> NDArray[Any]:
        """The translation of an image in tiles; ``watch`` is called with the share of the work that is done."""
        sink = ArraySink(self.output_shape(source.shape), np.dtype(self.header.target_dtype))
        odd, seen = OddSources(self), dict[str, Seen]()
        translate_tiled(self, source, sink, tiling, key, seed, partial(odd.look_at, seen=seen), False, watch)
        odd.count(seen)
        odd.report_each()
        return sink.pixels

    def to_tensor(self, source: Pixels, key: str) -> Tensor:
        """Pixels [H, W, C] of a source as stored, or of several by name, as a tensor [C, H, W] in [-1, 1].

        ``key`` names them in messages. Several lie one after another along the channels, as in training.
        """
        header = self.header
        if isinstance(source, Mapping) != bool(header.sources) or (
            isinstance(source, Mapping) and source.keys() != {one.name for one in header.sources}
        ):
            found = ", ".join(source) or "none" if isinstance(source, Mapping) else "one without a name"
            taken = ", ".join(one.name for one in header.sources) or "one, without a name"
            each = ", ".join(f'"{one.name}": ...' for one in header.sources)
            how = f"give all of them by name, {{{each}}}" if header.sources else "give that alone"
            raise DataError(f"{key}: its sources are {found}; this model takes {taken}, so {how}")
        if not isinstance(source, Mapping):
            return one_to_tensor(source, key, header.each_source[0], self.parts[0])
        tensors, shapes = [], dict[str, Shape]()
        for one, part in zip(header.each_source, self.parts, strict=True):
            tensor = one_to_tensor(source[one.name], f"{key}, its source {one.name}", one, part)
            tensors.append(tensor)
            shapes[one.name] = tensor.shape[1], tensor.shape[2], one.channels
        SampleHeader.of_sources(shapes, NO_IMAGE, key)  # they have one size
        return torch.cat(tensors)

    def tensor(
        self,
        source: Tensor,
        seed: int = 0,
        corners: Sequence[Corner] | None = None,
        statistics: ImageStatistics | None = None,
    ) -> Tensor:
        """The translation of sources [N, Cs, H, W] in [-1, 1], on the device that they are on.

        It is ``header.scale`` times as high and wide; of a model of colours it is these alone (inference.pictures).
        ``corners`` and ``statistics`` are for tiles of a larger image (see inference.infer).
        """
        if source.ndim != 4 or source.shape[1] != self.header.source_channels:
            expected = f"[N, {self.header.source_channels}, H, W], or without N"
            if wrong := not_an_image(source.shape[1:], channels_first=True):
                expected += f"; {wrong}"
            raise DataError(f"the tensor has the shape {list(source.shape)}; this model takes {expected}")
        self.header.refuse_huge_output((source.shape[2], source.shape[3]))
        together = len(source) if self.batched and (statistics is None or self.device.type != "cpu") else 1
        outputs = []
        with torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.precision != "no"):
            for first in range(0, len(source), together):
                some = slice(first, first + together)
                images = source[some].to(self.device)
                seeds, of_tiles = noise_seeds(seed, len(images)), corners[some] if corners else None
                outputs.append(infer(self.generator, images, self.policy, seeds, of_tiles, statistics))
        found, (height, width, _) = outputs[0].shape[2:], self.output_shape(source.shape[2:])
        if found != (height, width):
            about = self.header
            raise ModelFileError(
                f"generator {about.generator!r} gives images of {found[0]}x{found[1]} where the model file says "
                f"{height}x{width}; it was made by {about.distribution} {about.distribution_version}, install that"
            )
        made = torch.cat(outputs).contiguous()
        if not all(one.isfinite() for one in made.aminmax()):
            remedy = "" if self.precision == "no" else f"; it may without precision {self.precision}"
            raise P2PKitError(f"generator {self.header.generator!r} gives values that are NaN or infinite{remedy}")
        return made.to(source.device)


def load_model(
    file: str | Path,
    device: str | None = None,
    norm: Normalisation | None = None,
    dropout: bool | None = None,
    precision: Precision = "no",
    as_validated: bool = False,
) -> Translator:
    """The translator in a model file, or in the run folder that holds one; or PLUGIN:MODEL, one that a plugin provides.

    ``device`` is "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is; ``norm`` and ``dropout``
    replace the file's own policy (see inference.Policy); ``precision`` is "no" for float32, "bf16", or "fp16".
    With ``as_validated`` a CPU computes as it does in training's validation, to the last bit, which takes longer.

    Raises:
        P2PKitError: there is no such device here, or it cannot compute in that precision.
        PluginError: PLUGIN:MODEL names no plugin that is installed, or none of its models.
        ModelFileError: the file is missing, damaged, of a later version, or needs a plugin that is not installed.
    """
    chosen, file = choose_device(device), find_model(manager().model_file(file))
    header, weights = read_model(file)
    generator = rebuild(file, header, weights)
    if precision == "fp16" and chosen.type == "cpu":
        raise P2PKitError("precision fp16: it is for GPUs; on a CPU use bf16, or none")
    policy = replace(
        header.policy,
        norm=norm or header.policy.norm,
        dropout=header.policy.dropout if dropout is None else dropout,
    )
    speed_up_convolutions(generator.to(chosen), frozen=not as_validated)
    return Translator(generator, header, policy, precision)
