"""A model file as a function from image to image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from p2pkit.catalogue import create
from p2pkit.contracts import Normalisation
from p2pkit.errors import DataError, ModelFileError, P2PKitError, UnknownComponent
from p2pkit.images import from_unit, read_image, to_unit
from p2pkit.images.pictures import image_pixels
from p2pkit.images.writing import to_pillow
from p2pkit.inference import Policy, in_fast_layout, infer, noise_seeds
from p2pkit.model_file import FILE_NAME, ModelHeader, read_model


class Translator:
    """Translates images with one generator.

    Called with a path it gives a PIL image; called with a PIL image, an array [H, W, C] or [H, W] as stored, or a
    tensor [C, H, W] or [N, C, H, W] in [-1, 1], it gives back the same kind.
    """

    def __init__(self, generator: nn.Module, header: ModelHeader, policy: Policy) -> None:
        self.generator, self.header, self.policy = generator, header, policy

    def __call__(self, image: Any, seed: int = 0) -> Any:
        """The translation of ``image``; ``seed`` draws its noise, the same for the same seed in any company.

        Raises:
            DataError: the image cannot be read, or has another number of channels than the model takes.
        """
        if isinstance(image, str | Path):
            return to_pillow(self.pixels(read_image(Path(image)), str(image), seed))
        if isinstance(image, Image.Image):
            return to_pillow(self.pixels(image_pixels(image), "the image", seed))
        if isinstance(image, np.ndarray):
            flat = image.ndim == 2
            pixels = self.pixels(image[:, :, None] if flat else image, "the array", seed)
            return pixels[:, :, 0] if flat and pixels.shape[2] == 1 else pixels
        if isinstance(image, Tensor):
            return self.tensor(image, seed) if image.ndim == 4 else self.tensor(image[None], seed)[0]
        raise DataError(f"an image must be a path, a PIL image, an array or a tensor; found {type(image).__name__}")

    def pixels(self, source: NDArray[Any], key: str, seed: int = 0) -> NDArray[Any]:
        """The translation of pixels [H, W, C] as stored, in the target's type; ``key`` names them in messages."""
        if source.ndim != 3 or 0 in source.shape:
            raise DataError(f"{key}: pixels of shape {source.shape}; expected [height, width, channels]")
        found, taken = source.shape[2], self.header.source_channels
        if found != taken:
            raise DataError(f"{key}: it has {found} channels; this model takes {taken}, so convert it first")
        unit = self.tensor(to_unit(source, key, self.header.source_range)[None], seed)[0]
        return from_unit(unit, np.dtype(self.header.target_dtype), self.header.target_range)

    def tensor(self, source: Tensor, seed: int = 0) -> Tensor:
        """The translation of sources [N, Cs, H, W] in [-1, 1], on the device that they are on."""
        if source.ndim != 4 or source.shape[1] != self.header.source_channels:
            expected = f"[N, {self.header.source_channels}, H, W], or without N"
            raise DataError(f"the tensor has the shape {list(source.shape)}; this model takes {expected}")
        device = next(self.generator.parameters()).device
        noise = noise_seeds(seed, len(source))
        return infer(self.generator, source.to(device), self.policy, noise).to(source.device)


def load_model(
    file: str | Path, device: str | None = None, norm: Normalisation | None = None, dropout: bool | None = None
) -> Translator:
    """The translator in a model file, or in the run folder that holds one.

    ``device`` is "cpu", "cuda", or None for the best there is; ``norm`` and ``dropout`` replace the file's own policy
    (see inference.Policy).

    Raises:
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
    policy = replace(
        header.policy,
        norm=norm or header.policy.norm,
        dropout=header.policy.dropout if dropout is None else dropout,
    )
    return Translator(in_fast_layout(generator.to(chosen), torch.device(chosen)), header, policy)


def _rebuild(file: Path, header: ModelHeader, weights: dict[str, Tensor]) -> nn.Module:
    channels = {"source_channels": header.source_channels, "target_channels": header.target_channels}
    try:
        generator = cast(nn.Module, create("generators", header.generator, **{**header.parameters, **channels}))
        generator.load_state_dict(weights)
    except UnknownComponent as error:
        raise ModelFileError(
            f"{file}: its generator {header.generator!r} comes from {header.distribution} "
            f"{header.distribution_version}, which is not here; pip install {header.distribution}"
        ) from error
    except (P2PKitError, RuntimeError) as error:
        raise ModelFileError(
            f"{file}: its generator {header.generator!r} cannot be rebuilt; it was made by {header.distribution} "
            f"{header.distribution_version}: {error}"
        ) from error
    return generator.requires_grad_(False)
