"""A new study: the images of every method and the real ones, the same keys and sizes, in a folder of its own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from p2pkit.errors import DataError, P2PKitError, WriteError
from p2pkit.utils.atomic import os_errors_described, remove_unfinished, unfinished
from p2pkit.utils.progress import Progress, print_line
from p2pkit_web.study.folder import Settings, Study, image_file
from p2pkit_web.study.images import Pixels, files_in, keys_of, of_file, real_ones, test_set, through
from p2pkit_web.study.noise import png
from p2pkit_web.study.trials import refuse_few

if TYPE_CHECKING:
    from p2pkit import Translator

T = TypeVar("T")
OF_RUN = ("model.safetensors", "recipe.toml")
"""What tells a run folder from a folder of images."""
SHOWN = 5
"""How many keys a message names."""


def make(
    folder: Path, methods: Mapping[str, str], real: Path | None, settings: Settings, load: Callable[[str], Translator]
) -> Study:
    """Make a study in a new folder.

    Args:
        folder: appears whole or not at all; it may be there if it is empty.
        methods: a run, a model file, PLUGIN:MODEL or a folder of images, by the name of the method.
        real: the folder of real images; unless given, the targets of the runs' test set.
        settings: how the study is held.
        load: gives the model of a run.

    Raises:
        P2PKitError: images or data cannot be used, or are not the same for all methods.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WriteError(f"--out {folder}: something else is there; give a new folder")
    with os_errors_described(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.parent.glob(f".{folder.name}.*.part"))
        aside = unfinished(folder)
        try:
            study = _Making(aside, methods, settings).made(real, load)
            study.write(aside)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return Study(folder, study.settings, study.methods, study.keys, study.real)


class _Making:
    """A study on its way."""

    def __init__(self, folder: Path, methods: Mapping[str, str], settings: Settings) -> None:
        self._folder, self._methods, self._settings = folder, methods, settings
        self._places, self._sizes = dict[str, int](), dict[str, tuple[str, str]]()
        self._keys, self._digests = dict[str, list[str]](), dict[str, str]()
        self._real: list[str] = []

    def made(self, real: Path | None, load: Callable[[str], Translator]) -> Study:
        """The study, whose images are written."""
        if real is None and not any(map(is_run, self._methods.values())):
            raise DataError("folders of images do not say what is real: give --real FOLDER")
        if real is not None:
            files_in(real)  # before the long work
        for number, (name, given) in enumerate(self._methods.items()):
            if is_run(given):
                self._take_run(number, name, load(given), real is None)
            else:
                self._take_folder(number, name, Path(given))
            refuse_differing(name, self._keys[name], next(iter(self._keys.items())))
        keys = next(iter(self._keys.values()))
        if real is not None:
            self._take_real(real, set(keys))
        if self._settings.pairing == "different" and not set(keys) <= set(self._real):
            refuse_few(self._settings, len(keys), len(set(self._real) - set(keys)))
        return Study(self._folder, self._settings, self._methods, tuple(keys), tuple(self._real))

    def _take_folder(self, number: int, name: str, folder: Path) -> None:
        found = files_in(folder)
        refuse_few(self._settings, len(found))
        self._keys[name] = list(found)
        for key, file in _watched(found.items(), len(found), f"images of {name}"):
            self._write(number, name, key, of_file(file))

    def _take_run(self, number: int, name: str, translator: Translator, keeps_real: bool) -> None:
        try:
            samples = test_set(translator)
        except P2PKitError as error:
            raise DataError(f"{name}: {error}") from error
        refuse_few(self._settings, len(samples))
        if samples.targets is not None and self._settings.pairing == "same":
            raise DataError(
                f"{name}: its data is unpaired, so no real image belongs to an output; give --pairing different"
            )
        keep = keeps_real and not self._real
        keys = self._keys[name] = keys_of(samples)
        pairs = zip(keys, through(translator, samples), strict=True)
        for key, (fake, target) in _watched(pairs, len(keys), f"images of {name}"):
            self._write(number, name, key, fake)
            if target is not None:
                self._compare(name, key, target, keep)
        real = keys if samples.targets is None else keys_of(samples.targets)
        if samples.targets is not None:
            targets = zip(real, real_ones(translator, samples), strict=True)
            for key, target in _watched(targets, len(real), "real images"):
                self._compare(name, key, target, keep)
        if keeps_real:
            refuse_differing(name, real, ("another run", self._real or real))
            self._real = real

    def _take_real(self, folder: Path, keys: set[str]) -> None:
        found, all_of_them = files_in(folder), self._settings.pairing == "different"
        if not all_of_them:
            if missing := sorted(keys - found.keys()):
                raise DataError(f"{folder}: {_some(missing)} of the methods' images has no real image there")
            if unused := sorted(found.keys() - keys):
                print_line(f"NOTICE: {folder}: {_some(unused)} of the real images has no output, and is not used")
        self._real = [key for key in found if all_of_them or key in keys]
        for key in _watched(self._real, len(self._real), "real images"):
            self._write(None, str(folder), key, of_file(found[key]))

    def _compare(self, name: str, key: str, pixels: Pixels, keep: bool) -> None:
        """See that a real image is the same in every run; DataError where it is not."""
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        if self._digests.setdefault(key, digest) != digest:
            raise DataError(
                f"{name}: the real image of {key} is not that of the other runs; give runs of the same data"
            )
        if keep:
            self._write(None, "the real images", key, pixels)

    def _write(self, number: int | None, name: str, key: str, pixels: Pixels) -> None:
        size, same = f"{pixels.shape[0]}x{pixels.shape[1]}", self._settings.pairing == "same"
        other, known = self._sizes.setdefault(key if same else "", (name, size))
        if known != size:
            what = f"is {size} (height x width) in {name} and {known} in {other}"
            all_alike = "" if same else "; where different ones are paired all have one size"
            raise DataError(f"{key}: this image {what}{all_alike}; make them of one size")
        file = image_file(self._folder, number, self._places.setdefault(key, len(self._places)))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))


def is_run(given: str) -> bool:
    """Whether a run, a model file or PLUGIN:MODEL is named, not a folder of images."""
    path = Path(given)
    return not path.is_dir() or any((path / name).exists() for name in OF_RUN)


def refuse_differing(name: str, keys: list[str], other: tuple[str, list[str]]) -> None:
    """Raise DataError where two methods have not the same keys."""
    lacking, beyond = sorted(set(other[1]) - set(keys)), sorted(set(keys) - set(other[1]))
    parts = [f"{who} has no {_some(missing)}" for who, missing in ((name, lacking), (other[0], beyond)) if missing]
    if parts:
        raise DataError(f"{' and '.join(parts)}: all have to have the same images, called alike")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _watched(items: Iterable[T], count: int, title: str) -> Iterable[T]:
    with Progress(title, count, "image") as progress:
        for item in items:
            yield item
            progress.advance()
