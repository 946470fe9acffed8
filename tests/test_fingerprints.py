"""Fingerprints: another content is other data, whatever the sizes of its files; the cache of headers sees it too."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit
from p2pkit.components.catalogue import create
from p2pkit.data.discovery import fingerprint_of
from p2pkit.data.fingerprints import BLOCK, contents
from p2pkit.data.samples import Samples
from tests.conftest import Call, picture, save

LARGE = 100_000
"""Bytes of a file of which not all are looked at."""


def flip(file: Path, place: int) -> None:
    """Change one byte, and nothing else: not the size, nor when the file was written."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("size", [1, 2, BLOCK, 2 * BLOCK + 1, 3 * BLOCK, LARGE])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_beginning_middle_and_end_of_each_file_count(size: int, share: float, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.bin", "b.bin")]
    for file in files:
        file.write_bytes(bytes(size))
    before = fingerprint_of(tmp_path, files)
    flip(files[1], round(share * (size - 1)))
    assert fingerprint_of(tmp_path, files) != before


@pytest.mark.parametrize("place", [BLOCK, LARGE // 2 - BLOCK, LARGE // 2 + BLOCK, LARGE - BLOCK - 1])
def test_bytes_between_count_in_whole_files_alone(place: int, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(LARGE))
    sampled, whole = (list(contents([file], whole)) for whole in (False, True))
    flip(file, place)
    assert list(contents([file])) == sampled and list(contents([file], whole=True)) != whole


def test_a_copy_elsewhere_is_the_same_data(tmp_path: Path) -> None:
    prints = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        file = folder / "sub" / "a.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * LARGE)
        prints.append(fingerprint_of(folder, [file]))
        os.utime(file, (0, 0))
        prints.append(fingerprint_of(folder, [file]))
    assert len(set(prints)) == 1


def test_what_cannot_be_read_neither_hangs_nor_ends_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    found: list[bytes] = []
    files = sorted(tmp_path.iterdir())
    reading = threading.Thread(target=lambda: found.extend(contents(files)), daemon=True)
    reading.start()
    reading.join(20)
    assert found == [b"cannot be read: EISDIR", b"cannot be read: ENOENT", b"cannot be read: IrregularFile"]


def test_a_moment_of_failure_does_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, failures = save(tmp_path / "a.png", picture(8, 8, 0)), [OSError(5, "broken"), OSError(116, "stale")]
    before = list(contents([file]))
    real = os.open

    def failing(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path) == str(file) and failures:
            raise failures.pop()
        return real(path, *arguments, **options)

    monkeypatch.setattr("p2pkit.utils.opening.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "open", failing)
    assert list(contents([file])) == before and not failures


def fingerprint(recipe: Path, **settings: object) -> str:
    return p2pkit.load_data(recipe, {f"data.{key}": value for key, value in settings.items()}).fingerprint


@pytest.mark.parametrize("settings", [{}, {"split": 0.5}])
def test_whole_files_count_on_request(settings: dict[str, object], recipe: Path, pairs: Path) -> None:
    file = pairs / "train" / "0.png"
    file.write_bytes(file.read_bytes() + bytes(LARGE))
    before = fingerprint(recipe, **settings), fingerprint(recipe, fingerprint="whole", **settings)
    flip(file, LARGE // 4)
    after = fingerprint(recipe, **settings), fingerprint(recipe, fingerprint="whole", **settings)
    assert before[0] == after[0] and before[1] != after[1] and before[0] != before[1]


def test_data_of_which_every_pixel_is_replaced_is_not_resumed_on(
    p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path
) -> None:
    for file in pairs.rglob("*.png"):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    assert p2pkit("run", recipe, "--out", tmp_path / "run").code == 0
    for file in pairs.rglob("*.bmp"):
        size = file.stat().st_size
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
        assert file.stat().st_size == size
    outcome = p2pkit("run", "--resume", tmp_path / "run")
    assert outcome.code == 2 and "is not what this run was trained on" in outcome.err
    assert p2pkit("run", "--resume", tmp_path / "run", "--accept-changed-data").code == 0


def test_the_cache_of_headers_sees_a_file_that_was_written_again(
    p2pkit: Call, recipe: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the fingerprint does not: here it knows of no content."""
    monkeypatch.setattr("p2pkit.data.discovery.contents", lambda files: [b""] * len(files))
    for file in pairs.rglob("*.png"):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    assert p2pkit("check", recipe).code == 0
    file = pairs / "train" / "3.bmp"
    size = file.stat().st_size
    Image.fromarray(picture(96, 11, 0)).save(file)  # of an odd width, which has no halves
    assert file.stat().st_size == size
    outcome = p2pkit("check", recipe)
    assert outcome.code == 2 and "3.bmp" in outcome.err


def test_a_cache_of_headers_that_is_no_file_is_passed_over(p2pkit: Call, recipe: Path) -> None:
    folder = Path(os.environ["XDG_CACHE_HOME"], "p2pkit", "headers")
    before = set(folder.glob("*.json"))
    assert p2pkit("check", recipe).code == 0
    (file,) = set(folder.glob("*.json")) - before
    file.unlink()
    os.mkfifo(file)
    assert p2pkit("check", recipe).code == 0 and file.is_file()


class NamesFiles:
    """A data set of a stranger: without a fingerprint, more samples than are looked at, files that it names."""

    def __init__(self, files: list[Path]) -> None:
        self.source_files = files

    def __len__(self) -> int:
        return 500

    def __getitem__(self, index: int) -> Any:
        return picture(4, 4, index), picture(4, 4, index)


def test_files_that_a_data_set_names_count_although_it_has_no_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(LARGE))
    before = Samples(NamesFiles([file]), "it", "train").fingerprint()
    assert Samples(NamesFiles([file]), "it", "train").fingerprint() == before
    flip(file, 0)
    assert Samples(NamesFiles([file]), "it", "train").fingerprint() != before


class Drawn:
    """One that names no files, and of which sample 3 is another one."""

    def __init__(self, other: int) -> None:
        self.other = other

    def __len__(self) -> int:
        return 500

    def __getitem__(self, index: int) -> Any:
        image = picture(4, 4, self.other if index == 3 else 0)
        return image, image


def test_all_samples_count_on_request_where_no_files_are_named() -> None:
    sampled = {Samples(Drawn(other), "it", "train").fingerprint() for other in (0, 1)}
    whole = {Samples(Drawn(other), "it", "train", whole=True).fingerprint() for other in (0, 1)}
    assert len(sampled) == 1 and len(whole) == 2


@pytest.mark.parametrize("name", ["paired_folders", "unpaired_folders"])
def test_both_sides_of_folders_count(name: str, tmp_path: Path) -> None:
    for side in ("source", "target"):
        for number in range(3):
            save(tmp_path / "train" / side / f"{number}.png", picture(8, 8, number))
    prints = {create("datasets", name, root=tmp_path, split="train").fingerprint()}
    for side in ("source", "target"):
        flip(tmp_path / "train" / side / "1.png", -20)
        prints.add(create("datasets", name, root=tmp_path, split="train").fingerprint())
    assert len(prints) == 3
