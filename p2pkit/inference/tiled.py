"""An image larger than memory through a generator: read, translated, blended and written tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.errors import visible
from p2pkit.images.region_writing import RegionSink
from p2pkit.images.regions import Regions
from p2pkit.inference.pictures import picture_of, to_pixels
from p2pkit.inference.prefetch import batches, prefetch
from p2pkit.inference.statistics import Box, ImageStatistics, normalises_each_image
from p2pkit.inference.tiles import Blend, Span, Tiling, for_statistics
from p2pkit.utils.progress import Progress

if TYPE_CHECKING:
    from p2pkit.inference.translator import Translator

Place = tuple[Span, Span]
Watch = Callable[[float], None]
Look = Callable[[NDArray[Any], Tensor], None]
"""What sees each tile once: its pixels [H, W, C] as stored, and [C, H, W] in [-1, 1]."""


def translate_tiled(
    translator: Translator, source: Regions, sink: RegionSink, tiling: Tiling, key: str, seed: int, look: Look,
    shown: bool = True, watch: Watch | None = None,
) -> None:  # fmt: skip
    """Translate ``source`` into ``sink``, which takes an image ``translator.header.scale`` times as large.

    ``key`` names it in messages and in the progress that is ``shown``; ``watch`` is called with the share of the work
    that is done, and what it raises ends the work.

    Memory is bounded by a batch of tiles and the overlap of one row of tiles.

    Raises:
        DataError: a part of the source cannot be read, or it has another number of channels than the model takes.
    """
    height, width, _ = source.shape
    rows, columns = tiling.along(height), tiling.along(width)
    places = [(row, column) for row in rows for column in columns]
    read = partial(_tile, translator, source, key)
    statistics, before = None, 0
    if len(places) > 1:
        sampled = for_statistics(rows, columns)
        before = _normalising(translator) * len(sampled)
        gathering = None if watch is None else partial(_share, watch, before + len(places))
        statistics = _statistics(translator, read, sampled, key, seed, shown, gathering)
    blend, scale = Blend(), translator.header.scale

    def done(progress: Progress) -> Generator[tuple[Place, Tensor], None, None]:
        with closing(prefetch(lambda place: (place, read(place, look)), iter(places), 1, tiling.batch_size)) as tiles:
            for batch in batches(tiles, tiling.batch_size):
                corners = [(row.start, column.start) for (row, column), _ in batch]
                outputs = translator.tensor(torch.stack([tile for _, tile in batch]), seed, corners, statistics)
                for (place, tile), output in zip(batch, outputs, strict=True):
                    row, column = (span.enlarged(scale) for span in place)
                    yield (row, column), blend.add(row, column, picture_of(translator.header, output, tile))
                    progress.advance()
                    if watch is not None:
                        watch((before + progress.done) / (before + len(places)))

    def write(part: tuple[Place, Tensor]) -> None:
        (row, column), picture = part
        sink.write(row.begin, column.begin, to_pixels(translator.header, picture))

    with (
        Progress(f"translating {visible(key)}", len(places), "tile", shown=shown) as progress,
        closing(done(progress)) as parts,
        closing(prefetch(write, parts, 1)) as written,
    ):
        for _ in written:
            pass


def _statistics(
    translator: Translator, read: Callable[[Place], Tensor], places: Sequence[Place], key: str, seed: int, shown: bool,
    watch: Watch | None,
) -> ImageStatistics | None:  # fmt: skip
    """The statistics that normalisation takes from the whole image, as far as ``places`` stand for it; None if none."""
    if (layers := _normalising(translator)) == 0:
        return None
    statistics = ImageStatistics()

    def passes(progress: Progress) -> Iterator[tuple[Box, Callable[[], Tensor]]]:
        for row, column in places:
            tile, corner = read((row, column))[None], (row.start, column.start)
            yield (*row.own, *column.own), partial(translator.tensor, tile, seed, [corner], statistics)
            progress.advance()
            if watch is not None:
                watch(progress.done)

    with Progress(f"statistics of {visible(key)}", layers * len(places), "tile", shown=shown) as progress:
        while statistics.gather(passes(progress)):
            pass
    return statistics


def _normalising(translator: Translator) -> int:
    """How many layers normalise by the statistics of an image."""
    return sum(normalises_each_image(module, translator.policy.norm) for module in translator.generator.modules())


def _share(watch: Watch, total: float, done: float) -> None:
    watch(done / total)


def _tile(translator: Translator, source: Regions, key: str, place: Place, look: Look | None = None) -> Tensor:
    row, column = place
    part = source.read(slice(row.start, row.start + row.size), slice(column.start, column.start + column.size))
    tile = translator.to_tensor(part, key)
    if look is not None:
        look(part, tile)
    return tile
