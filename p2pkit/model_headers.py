"""What the model file of a run says of itself, but for its step and metrics."""

from __future__ import annotations

from typing import Any

from p2pkit.components.signature import plain
from p2pkit.data.augmentation import Augmentation
from p2pkit.data.drawings import drawing_of
from p2pkit.data.sets import Data
from p2pkit.inference.model_header import (
    ClassHeader,
    DrawingHeader,
    EncodingHeader,
    ModelHeader,
    ResizeHeader,
    SideHeader,
    SourceHeader,
)
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.settings import LAB_AB, height_width


def model_header(recipe: Recipe, data: Data, augmentation: Augmentation) -> ModelHeader:
    """The header of the model file of a run as it begins; ``augmentation`` is what resizes its images."""
    transform, encoding, spec = recipe.transform, recipe.encoding, data.spec
    size, resize, source_size, dtype = transform.crop_size, None, data.first.header.source[:2], data.first.target.dtype
    of_sources: dict[str, Any] = {"planes": data.train.planes or None}
    if spec.first.parts:
        of_sources |= {"source_dtype": "", "sources": _source_headers(recipe, data)}
    else:
        values, reading = spec.sides["source"]
        of_sources |= {
            "source_dtype": str(data.first.source.dtype), "source_range": values, "source_nodata": recipe.source.nodata,
            "source_fill": recipe.source.fill, "encoding": encoding and _encoding_header(encoding),
            "source_reading": SideHeader(**recipe.source.model_dump(), ranges=reading.ranges),
        }  # fmt: skip
    if transform.load_size is not None:
        at_test = augmentation.sizes(source_size).test
        loaded = height_width(transform.load_size)
        resize = ResizeHeader(size=loaded if transform.keep_aspect else at_test, keep_aspect=transform.keep_aspect)
        size = size or (None if transform.keep_aspect else loaded)
    return ModelHeader(
        generator=recipe.generator.name,
        parameters=plain(recipe.generator.values),
        distribution=recipe.generator.registered.distribution,
        distribution_version=recipe.generator.registered.version,
        **of_sources,
        target_dtype="uint8" if recipe.target.channels == LAB_AB or dtype.kind == "b" else str(dtype),
        target_range=spec.sides["target"][0],
        scale=spec.scale,
        target_reading=SideHeader(**recipe.target.model_dump(), ranges=spec.sides["target"][1].ranges),
        target_ending=data.train.target_ending,
        size=None if size is None else height_width(size), resize=resize, source_size=source_size,
        stored_as=data.train.stored_as, drawings=_drawings(recipe, data),
        recipe=recipe.toml(),
        data=f"{recipe.data.name} {data.fingerprint}",
        source_channels=data.channels["source_channels"], target_channels=data.channels["target_channels"],
    )  # fmt: skip


def _source_headers(recipe: Recipe, data: Data) -> tuple[SourceHeader, ...]:
    """What a model file says of each of several sources."""
    spec, headers = data.spec, []
    for name, channels in spec.first.parts:
        settings, side = recipe.sources.get(name, recipe.source), f"source.{name}"
        headers.append(
            SourceHeader(
                name=name, channels=channels, dtype=str(data.first.source[name].dtype), range=spec.sides[side][0],
                nodata=settings.nodata, fill=settings.fill,
                reading=SideHeader(**settings.model_dump(), ranges=spec.sides[side][1].ranges),
                encoding=_encoding_header(recipe.encodings[name]) if name in recipe.encodings else None,
            )
        )  # fmt: skip
    return tuple(headers)


def _drawings(recipe: Recipe, data: Data) -> dict[str, DrawingHeader]:
    """What can be drawn for each source; of one that is encoded only where the data names its classes."""
    drawings = {}
    for name in [name for name, _ in data.first.header.parts] or [""]:
        encoded = name in recipe.encodings if name else recipe.encoding is not None
        found = None if encoded and data.train.classes is None else drawing_of(data, name)
        if found is not None and (found.named or not encoded):
            classes = [ClassHeader(name=each, values=tuple(values)) for each, values in found.classes.items()]
            drawings[name] = DrawingHeader(kind=found.kind, classes=tuple(classes))
    return drawings


def _encoding_header(encoding: Chosen) -> EncodingHeader:
    return EncodingHeader(
        name=encoding.name, parameters=plain(encoding.values), distribution=encoding.registered.distribution,
        distribution_version=encoding.registered.version,
    )  # fmt: skip
