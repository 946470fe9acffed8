"""Images in memory through a model as ``p2pkit translate`` takes files through it: what servers need of a translator.

The steps are apart, so that what decodes and encodes can go on beside the network, and several sources can go through
it together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.errors import DataError, counted
from p2pkit.images.names import ending, output_ending, tiled_ending, without_ending
from p2pkit.images.reading import image_header_bytes, read_image_bytes
from p2pkit.images.writing import format_written
from p2pkit.inference.odd_sources import OddSources, Pixels
from p2pkit.inference.pictures import picture_of, to_pixels
from p2pkit.inference.policy import draws_noise, latent_of_seed, layer_seed, noise_seeds
from p2pkit.inference.sources import StoredAs, half_of, is_twice_as_wide, part_of, regions_of
from p2pkit.inference.tiles import Tiling

if TYPE_CHECKING:
    from p2pkit.inference.translator import Size, Translator


class Ready(NamedTuple):
    """A source [C, H, W] in [-1, 1] on its way: as large as it is stored, and as large as in training."""

    stored: Tensor
    trained: Tensor
    size: Size


def read_source(translator: Translator, data: bytes, name: str, stored_as: StoredAs | None = None) -> NDArray[Any]:
    """The pixels [H, W, C] of the source in an image file that is in memory; ``name`` is what it is called.

    Where training sources were halves of files, and this is of the shape of such a file, that is its half.

    Raises:
        DataError: it is not an image that can be read, or has no halves.
    """
    wide = is_twice_as_wide(translator.header, image_header_bytes(data, name))
    part = part_of(translator.header, stored_as, wide)
    return half_of(read_image_bytes(data, name), part, name)


def ready(translator: Translator, source: Pixels, key: str, size: Size = "source") -> Ready:
    """Pixels [H, W, C] as stored, or several by name, made ready for :meth:`Translator.tensor`.

    That takes several whose ``trained`` are of one size at once, as [N, C, H, W]. ``key`` names them in messages.

    Raises:
        DataError: they are not what the model takes.
    """
    tensor, odd = translator.to_tensor(source, key), OddSources(translator)
    odd.look_at(source, tensor)
    odd.report_each()
    return Ready(tensor, translator.to_trained_size(tensor, size), size)


def finished(translator: Translator, source: Ready, output: Tensor) -> NDArray[Any]:
    """What :meth:`Translator.tensor` has made [Ct, h, w] of one source as pixels [H, W, C] in the target's type."""
    output = translator.from_trained_size(output, source.stored.shape[1:], source.size)
    beside = source.trained if source.size == "model" else source.stored
    return to_pixels(translator.header, picture_of(translator.header, output, beside))


def in_tiles(
    translator: Translator, source: Pixels, key: str, seed: int, tile: int, overlap: int | None = None,
    watch: Callable[[float], None] | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The translation of pixels [H, W, C], or of several sources by name, in tiles of ``tile`` pixels.

    ``watch`` is called with the share of the work that is done, 0 to 1, after each step; what it raises ends the work.

    Raises:
        DataError: they are not what the model takes, or its generator takes no such tiles.
    """
    tiling = Tiling.chosen(translator.generator, tile, overlap)
    translator.chosen_size(None, tiled=True)
    return translator.of_tiles(regions_of(source, key), key, seed, tiling, watch)


def noisy(translator: Translator) -> bool:
    """Whether outputs depend on the seed."""
    return draws_noise(translator.generator, translator.policy)


def drawn_by_seed(noise: Mapping[str, Any], seeds: Iterable[int]) -> list[Any]:
    """What an exported ``noise`` input (metadata) is drawn by for each of the ``seeds`` of a translation.

    Of a latent that is its vector, of others the seed of a plane of noise (networks.noise).
    """
    layer, kind = noise["layer"], noise["of"]
    own = [noise_seeds(seed, 1)[0] for seed in seeds]
    if kind == "latent":
        return [latent_of_seed(seed, layer, noise["values"]).tolist() for seed in own]
    return [layer_seed(seed, layer, kind) for seed in own]


def written(
    translator: Translator, pixels: NDArray[Any], name: str, wanted: str | None = None, tiled: bool = False
) -> tuple[bytes, str]:
    """The image file of an output of a source called ``name``, and what it is called.

    Its format is ``wanted`` ("png", "tif" ...), or the one that ``p2pkit translate`` chooses, of ``tiled`` ones too.

    Raises:
        DataError: that format does not hold such pixels, or is not written.
    """
    header, channels = translator.header, pixels.shape[2]
    if wanted:
        chosen = f".{wanted.lower().removeprefix('.')}"
    elif tiled:
        chosen = tiled_ending(ending(Path(name)))
    else:
        chosen = output_ending(Path(name), np.dtype(header.target_dtype), channels, header.target_ending)
    found = format_written(chosen)
    if not found.holds(pixels.dtype, channels):
        held = f"{counted(channels, 'channel')} of {pixels.dtype}"
        raise DataError(f"{name}: a {found.name.upper()} cannot hold {held}; choose another format")
    stream = BytesIO()
    found.write(stream, pixels, None)
    called = without_ending(Path(name)).name if ending(Path(name)) else name
    return stream.getvalue(), f"{called}{chosen}"
