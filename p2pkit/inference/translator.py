"""A model file as a function from image to image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.components.host import manager
from p2pkit.contracts import Normalisation
from p2pkit.errors import DataError, ModelFileError, P2PKitError, UnknownComponent
from p2pkit.images.pictures import image_pixels, to_pillow
from p2pkit.images.pixels import Missing, as_indices, denormalize, normalize, not_an_image, refuse_unclear
from p2pkit.images.reading import read_image
from p2pkit.images.region_writing import ArraySink
from p2pkit.images.regions import ArrayRegions, Regions, open_regions
from p2pkit.inference.model_file import FILE_NAME, ModelHeader, read_model
from p2pkit.inference.policy import Corner, Policy, infer, noise_seeds
from p2pkit.inference.statistics import ImageStatistics
from p2pkit.inference.tiled import translate_tiled
from p2pkit.inference.tiles import Tiling
from p2pkit.networks.encoding import Encoded
from p2pkit.networks.fitting import in_fast_layout

if TYPE_CHECKING:
    from p2pkit.inference.files import FileOptions, Report


Precision = Literal["no", "bf16", "fp16"]
PRECISIONS: Mapping[Precision, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Translator:
    """Translates images with one generator.

    Called with a path it gives a PIL image; called with a PIL image, an array [H, W, C] or [H, W] as stored, or a
    tensor [C, H, W] or [N, C, H, W] in [-1, 1], it gives back the same kind; called with a list, a list of these.
    ``precision`` is that of the network's arithmetic: float32, or mixed with bf16, or with fp16 (on GPUs alone).
    """

    def __init__(self, generator: nn.Module, header: ModelHeader, policy: Policy, precision: Precision = "no") -> None:
        self.generator, self.header, self.policy, self.precision = generator, header, policy, precision

    def __repr__(self) -> str:
        header, (low, high) = self.header, self.header.values("source")
        noise = "with noise" if self.policy.dropout else "without noise"
        return (
            f"<Translator {header.generator!r} of {header.distribution} {header.distribution_version}, step "
            f"{header.step}: {header.source_channels} channels of {header.source_dtype} ({low:g} to {high:g}) -> "
            f"{header.target_channels} of {header.target_dtype}, batch norm by {self.policy.norm!r}, {noise}>"
        )

    def __call__(self, image: Any, seed: int = 0, tile: int | None = None, overlap: int | None = None) -> Any:
        """The translation of ``image``; ``seed`` draws its noise, the same for the same seed in any company.

        With ``tile`` it is translated in tiles of so many pixels that ``overlap`` by so many (None: an eighth); tensors
        are not.

        Raises:
            DataError: the image cannot be read, or has another number of channels than the model takes.
        """
        if isinstance(image, list | tuple):
            return [self(one, seed, tile, overlap) for one in image]
        tiling = None if tile is None else Tiling.chosen(self.generator, tile, overlap)
        if isinstance(image, str | Path):
            if tiling is None:
                return to_pillow(self.pixels(read_image(Path(image)), str(image), seed))
            return to_pillow(self._of_tiles(open_regions(Path(image)), str(image), seed, tiling))
        if isinstance(image, Image.Image):
            return to_pillow(self.pixels(image_pixels(image), "the image", seed, tiling))
        if isinstance(image, np.ndarray):
            flat = image.ndim == 2
            refuse_unclear(image, "the image is an array")
            pixels = self.pixels(image[:, :, None] if flat else image, "the array", seed, tiling)
            return pixels[:, :, 0] if flat and pixels.shape[2] == 1 else pixels
        if isinstance(image, Tensor) and tiling is None:
            return self.tensor(image, seed) if image.ndim == 4 else self.tensor(image[None], seed)[0]
        expected = "a path, a PIL image, an array" + (
            " or a tensor" if tiling is None else ", to be translated in tiles"
        )
        raise DataError(f"an image must be {expected}; found {type(image).__name__}")

    def files(self, inputs: Sequence[str | Path], out: str | Path, options: FileOptions | None = None) -> Report:
        """Translate files and folders into ``out``, as ``p2pkit translate`` does.

        Raises:
            DataError: an input is missing, a folder holds no images, or the generator takes no such tiles.
            WriteError: the disk is full, or writing is not allowed.
        """
        from p2pkit.inference.files import FileOptions, translate_files

        return translate_files(self, [Path(given) for given in inputs], Path(out), options or FileOptions())

    def pixels(self, source: NDArray[Any], key: str, seed: int = 0, tiling: Tiling | None = None) -> NDArray[Any]:
        """The translation of pixels [H, W, C] as stored, in the target's type; ``key`` names them in messages."""
        if tiling is not None:
            return self._of_tiles(ArrayRegions(source), key, seed, tiling)
        return self.to_pixels(self.tensor(self.to_tensor(source, key)[None], seed)[0])

    def _of_tiles(self, source: Regions, key: str, seed: int, tiling: Tiling) -> NDArray[Any]:
        height, width, _ = source.shape
        sink = ArraySink((height, width, self.header.target_channels), np.dtype(self.header.target_dtype))
        translate_tiled(self, source, sink, tiling, key, seed, shown=False)
        return sink.pixels

    def to_tensor(self, source: NDArray[Any], key: str) -> Tensor:
        """Pixels [H, W, C] of a source as stored, as a tensor [C, H, W] in [-1, 1]; ``key`` names them in messages."""
        if source.ndim != 3 or 0 in source.shape:
            raise DataError(f"{key}: pixels of shape {source.shape}; expected [height, width, channels]")
        self.refuse_channels(source.shape[2], key)
        if self.header.encoding is not None:
            source = as_indices(source)
        nodata = self.header.source_nodata
        missing = Missing(None if nodata is None else float(nodata), self.header.source_fill)
        return normalize(source, key, self.header.source_range, missing)

    def to_pixels(self, output: Tensor) -> NDArray[Any]:
        """A translation [C, H, W] in [-1, 1] as pixels [H, W, C] of the target's type."""
        return denormalize(output, np.dtype(self.header.target_dtype), self.header.target_range)

    def refuse_channels(self, found: int, key: str) -> None:
        """Raise DataError, beginning with ``key``, when the model takes no sources of ``found`` channels."""
        taken = self.header.source_channels
        if found != taken:
            raise DataError(f"{key}: it has {found} channels; this model takes {taken}, so convert it first")

    def tensor(
        self,
        source: Tensor,
        seed: int = 0,
        corners: Sequence[Corner] | None = None,
        statistics: ImageStatistics | None = None,
    ) -> Tensor:
        """The translation of sources [N, Cs, H, W] in [-1, 1], on the device that they are on.

        ``corners`` and ``statistics`` are for tiles of a larger image (see inference.infer).
        """
        if source.ndim != 4 or source.shape[1] != self.header.source_channels:
            expected = f"[N, {self.header.source_channels}, H, W], or without N"
            if wrong := not_an_image(source.shape[1:], channels_first=True):
                expected += f"; {wrong}"
            raise DataError(f"the tensor has the shape {list(source.shape)}; this model takes {expected}")
        device = next(self.generator.parameters()).device
        # on a CPU the last bits of a convolution depend on how many images it is given, so each goes alone
        shared = self.policy.norm == "batch" and statistics is None
        together = len(source) if shared or device.type != "cpu" else 1
        outputs = []
        with torch.autocast(device.type, PRECISIONS[self.precision], enabled=self.precision != "no"):
            for first in range(0, len(source), together):
                some = slice(first, first + together)
                images = source[some].to(device)
                seeds, of_tiles = noise_seeds(seed, len(images)), corners[some] if corners else None
                outputs.append(infer(self.generator, images, self.policy, seeds, of_tiles, statistics))
        return torch.cat(outputs).to(source.device)


def load_model(
    file: str | Path,
    device: str | None = None,
    norm: Normalisation | None = None,
    dropout: bool | None = None,
    precision: Precision = "no",
) -> Translator:
    """The translator in a model file, or in the run folder that holds one.

    ``device`` is "cpu", "cuda", or None for the best there is; ``norm`` and ``dropout`` replace the file's own policy
    (see inference.Policy); ``precision`` is "no" for float32, "bf16", or "fp16".

    Raises:
        P2PKitError: the device cannot compute in that precision.
        ModelFileError: the file is missing, damaged, of a later version, or needs a plugin that is not installed.
    """
    file = Path(file)
    if file.is_dir():
        file /= FILE_NAME
    header, weights = read_model(file)
    generator = _rebuild(file, header, weights)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen == "cuda" and not torch.cuda.is_available():
        raise ModelFileError("device cuda: PyTorch finds no CUDA device on this machine; use the CPU")
    if precision == "fp16" and chosen == "cpu":
        raise P2PKitError("precision fp16: it is for GPUs; on a CPU use bf16, or none")
    policy = replace(
        header.policy,
        norm=norm or header.policy.norm,
        dropout=header.policy.dropout if dropout is None else dropout,
    )
    return Translator(in_fast_layout(generator.to(chosen), torch.device(chosen)), header, policy, precision)


def _rebuild(file: Path, header: ModelHeader, weights: dict[str, Tensor]) -> nn.Module:
    channels = {"source_channels": header.source_channels, "target_channels": header.target_channels}
    encoding = header.encoding
    if encoding is not None:
        with _explaining(file, f"encoding {encoding.name!r}", encoding.distribution, encoding.distribution_version):
            source = {"source_channels": header.source_channels, "source_range": header.values("source")}
            encode = create("encodings", encoding.name, **encoding.parameters, **source)
            channels["source_channels"] = encode.channels
    with _explaining(file, f"generator {header.generator!r}", header.distribution, header.distribution_version):
        parameters = {**header.parameters, **channels, "weights_follow": True}
        generator = cast(nn.Module, create("generators", header.generator, **parameters))
        if encoding is not None:
            generator = Encoded(encode, generator)
        generator.load_state_dict(weights)
    return generator.requires_grad_(False)


@contextmanager
def _explaining(file: Path, what: str, distribution: str, version: str) -> Iterator[None]:
    """Name the model file, and the distribution, of what cannot be rebuilt."""
    try:
        yield
    except UnknownComponent as error:
        broken = (plugin.problem for plugin in manager().broken() if plugin.distribution == distribution)
        why = next((f"left out here: {problem}" for problem in broken), f"not here; pip install {distribution}")
        raise ModelFileError(f"{file}: its {what} comes from {distribution} {version}, which is {why}") from error
    except (P2PKitError, RuntimeError) as error:
        raise ModelFileError(
            f"{file}: its {what} cannot be rebuilt; it was made by {distribution} {version}: {error}"
        ) from error
