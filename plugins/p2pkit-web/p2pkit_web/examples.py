"""Sources of the validation set of the data that a model was trained on, where that data is here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from p2pkit.downloads.download import without_downloads
from p2pkit.errors import DataError, P2PKitError
from p2pkit.images.writing import format_written
from p2pkit_web.answers import Refusal
from p2pkit_web.models import Model

if TYPE_CHECKING:
    from p2pkit import Translator

SHOWN = 24
OF_DATA = ("data", "source", "target", "mask", "transform", "loader", "encoding")
"""The tables of a recipe by which its data is read."""


class Examples:
    """The examples of all models; data sets are opened when somebody asks, and nothing is downloaded."""

    def __init__(self) -> None:
        self._sets, self._lock = dict[str, Any](), threading.Lock()

    def of(self, model: Model, translator: Translator) -> dict[str, Any]:
        """The keys of the first examples, or why there are none."""
        try:
            samples = self._samples(model, translator)
            return {"keys": [_key(samples, place) for place in range(min(SHOWN, len(samples)))], "why": ""}
        except (P2PKitError, OSError) as error:
            return {"keys": [], "why": str(error)}

    def source(self, model: Model, translator: Translator, place: int, name: str) -> tuple[bytes, str]:
        """One source of an example, by its place, as the bytes of an image file and their type.

        Raises:
            Refusal: there is no such example, or no such source.
        """
        try:
            samples = self._samples(model, translator)
            if not 0 <= place < min(SHOWN, len(samples)):
                raise Refusal(404, f"there is no example {place}", f"there are {min(SHOWN, len(samples))}")
            with self._lock:
                sample = samples[place]
        except (P2PKitError, OSError) as error:
            raise Refusal(404, f"the examples of this model cannot be read: {error}") from error
        source = sample.source
        image = source.get(name) if isinstance(source, dict) else source if name in ("", "source") else None
        if image is None:
            raise Refusal(404, f"the examples have no source {name[:100]!r}")
        from io import BytesIO

        png = format_written(".png")
        found, kind = (png, "image/png") if png.holds(image.dtype, image.shape[2]) else (None, "image/tiff")
        stream = BytesIO()
        (found or format_written(".tif")).write(stream, image, None)
        return stream.getvalue(), kind

    def _samples(self, model: Model, translator: Translator) -> Any:
        """The val set, or the test set where there is none. Raises P2PKitError where neither can be had."""
        with self._lock:
            if model.id not in self._sets:
                self._sets[model.id] = _opened(translator)
            found = self._sets[model.id]
        if isinstance(found, P2PKitError):
            raise found
        return found


def _opened(translator: Translator) -> Any:
    from p2pkit import load_data

    try:
        header = translator.header
        if header.planes is not None or any("lab" in (one.reading.channels or "") for one in header.each_source):
            return DataError("examples of planes of volumes, and of Lab, are not shown")
        recipe = header.recipe_tables()
        tables = {name: recipe[name] for name in OF_DATA if name in recipe}
        tables["loader"] = {**tables.get("loader", {}), "cache": "none"}
        with without_downloads():
            data = load_data(tables, (), False, ("val", "test"))
        samples = data.val if len(data.val) else data.test
        return samples if len(samples) else DataError("the data that this model was trained on has no val or test set")
    except P2PKitError as error:
        return error


def _key(samples: Any, place: int) -> str:
    read = samples.header if hasattr(samples, "header") else samples.__getitem__
    return str(read(place).key)
