"""``p2pkit export --format web``: a folder with the page, in which the visitor's browser translates by itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import p2pkit
from p2pkit.errors import ExportError
from p2pkit.inference.in_memory import drawn_by_seed
from p2pkit_web.answers import Limits
from p2pkit_web.describing import PNG_BITS, abilities

if TYPE_CHECKING:
    from torch import Tensor

    from p2pkit import Translator
    from p2pkit.export.contract import Exportable

NPM = "onnxruntime-web"
MODULES = f"../node_modules/{NPM}/dist/"
"""Where npm puts the runtime, seen from the folder's scripts."""
SAMPLES = 100
"""Seeds whose noise a page can draw."""
MOST_RESIZED = 16_000_000
"""Pixels of an image that is resized before the network sees it: browsers give a page a few GB."""
NO_TILES = 1 << 16
"""The side of tiles in a page that is to offer none."""


class WebFolder:
    """A folder for any web server: the page of ``p2pkit serve``, the model as ONNX, and what p2pkit does around it.

    ``runtime`` is a URL of the folder of files that ONNX Runtime Web consists of (ort.wasm.min.mjs ...); empty where
    npm puts them into the folder.
    """

    folder = ("index.html", "model.json", "model.onnx", "static")

    def __init__(self, runtime: str = "") -> None:
        if runtime and (urlsplit(runtime).scheme not in ("http", "https") or not urlsplit(runtime).netloc):
            raise ExportError(
                f"runtime = {runtime!r}: expected the URL of a folder with ort.wasm.min.mjs, https://... ; or leave it "
                f"out, and let npm put {NPM} into the folder"
            )
        self._onnx = p2pkit.create("exporters", "onnx")
        self._runtime = f"{runtime.rstrip('/')}/" if runtime else MODULES
        self.facts = {**self._onnx.facts, "name": "a page with ONNX"}

    def write(self, exportable: Exportable, file: Path) -> None:
        """Write the folder, whose name is ``file``.

        Raises:
            ExportError: the model takes or gives what browsers cannot read or write.
        """
        translator = exportable.translator
        if wrong := list(_unsupported(translator)):
            raise ExportError(f"not for browsers: {'; '.join(wrong)}. Take p2pkit serve")
        self._onnx.write(exportable, file / "model.onnx")
        metadata = json.loads(exportable.metadata["p2pkit"])
        about = {**self._about(translator, exportable), "padding": metadata["padding"]["to"]}
        about["noise"] = [_with_draws(noise) for noise in metadata["noise"]]
        about["model"]["noise"], about["model"]["samples"] = bool(about["noise"]), SAMPLES
        (file / "model.json").write_text(json.dumps(about), encoding="utf-8")
        _copy_page(file)

    def load(self, file: Path) -> Callable[..., Tensor]:
        """The network in the folder, as a function."""
        run: Callable[..., Tensor] = self._onnx.load(file / "model.onnx")
        return run

    def advice(self, file: Path) -> Sequence[str]:
        """How the page gets the runtime, and is seen."""
        folder, lines = shlex.quote(str(file)), list[str]()
        if self._runtime == MODULES and not (file / "node_modules" / NPM).exists():
            lines.append(f"the runtime is not inside: npm install --prefix {folder} {NPM}")
        return [*lines, f"to look at it: python -m http.server --directory {folder}"]

    def _about(self, translator: Translator, exportable: Exportable) -> dict[str, Any]:
        """What the page and its scripts have to know."""
        header, target = translator.header, translator.header.target_reading
        title = header.recipe_tables().get("run", {}).get("name") or header.generator
        return {
            "model": {
                "id": "model", "title": title, "there": True, "training": False, "version": translator.fingerprint,
                **abilities(translator), "tile": NO_TILES,
            },
            "runtime": self._runtime,
            "how": f"npm install {NPM} in the folder of the page brings it, or export with --set runtime=URL",
            "sources": [_source(translator, at, exportable.inputs[at].name) for at in range(len(translator.parts))],
            "target": {
                "bits": PNG_BITS[header.target_dtype], "ranges": _ranges(target.ranges, header.target_range),
                **_colours(translator),
            },
            "resize": header.resize and header.resize.model_dump(),
            "most": MOST_RESIZED if header.resize else Limits().whole_pixels,
            "half": "" if header.sources else header.stored_as, "source_size": header.source_size,
        }  # fmt: skip


def _unsupported(translator: Translator) -> Iterator[str]:
    """What of a model no page can do, each in words."""
    header = translator.header
    for one in header.each_source:
        of, taken = f"its source {one.name}".strip(), one.reading
        if one.dtype not in PNG_BITS and taken.channels != "lab_L":
            yield f"{of} is of {one.dtype}, and browsers read images of 8 and 16 bits"
        if one.channels > 4:
            yield f"{of} has {one.channels} channels, and a PNG has 4 at most"
        if one.nodata is not None or taken.mask is not None:
            yield f'{of} has values that mean "nothing here"'
        if taken.mapping != "linear":
            yield f"{of} is of logarithms"
    if header.target_dtype not in PNG_BITS or header.picture_channels > 4:
        yield f"it gives {header.picture_channels} channels of {header.target_dtype}, which no PNG has"
    if header.target_reading.mapping != "linear":
        yield "it gives logarithms"
    if header.planes is not None:
        yield "it is of volumes"


def _source(translator: Translator, at: int, name: str) -> dict[str, Any]:
    """How files of a source are read, and what its input is called."""
    header, part = translator.header.each_source[at], translator.parts[at]
    _, taking = header.how_read(class_map=hasattr(part.encoding, "class_numbers"))
    return {
        "name": header.name, "input": name, "channels": header.channels, "resampling": part.resampling,
        "ranges": _ranges(header.reading.ranges, header.range),
        "taking": {"channels": taking.channels, "alpha": taking.alpha, "palette": taking.palette},
    }  # fmt: skip


def _ranges(each: Sequence[Any], of_all: Any) -> list[Any] | None:
    """The range of each channel, or the one of all; None for that of the type of pixels."""
    return list(each) or ([of_all] if of_all else None)


def _colours(translator: Translator) -> dict[str, Any]:
    """The colours a and b that -1 and 1 are, and which source is their lightness; nothing of other models."""
    colours = translator.header.colours
    if colours is None:
        return {"ab": None, "lightness": None}
    taken = [one.reading.channels for one in translator.header.each_source]
    return {"ab": colours.ab, "lightness": {"source": taken.index("lab_L"), "range": colours.lightness}}


def _with_draws(noise: Mapping[str, Any]) -> dict[str, Any]:
    """What a noise input is, and what it is drawn by for each of the seeds."""
    return {**noise, "draws": drawn_by_seed(noise, range(SAMPLES))}


def _copy_page(folder: Path) -> None:
    """The page and its scripts; those that translate in the browser take the place of those that ask a server."""
    package, scripts = files("p2pkit_web"), folder / "static"
    scripts.mkdir()
    for found in [*package.joinpath("static").iterdir(), *package.joinpath("browser").iterdir()]:
        if found.name == "page.html":
            (folder / "index.html").write_bytes(found.read_bytes())
        elif not found.name.startswith("study") and found.is_file():
            (scripts / found.name).write_bytes(found.read_bytes())
