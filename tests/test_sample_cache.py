"""Samples kept on a disk: as they were, for all processes at once, never of other data, whatever becomes of files."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p2pkit.contracts import Sample
from p2pkit.data import sample_cache
from p2pkit.data.sample_cache import FORGOTTEN_AFTER_SECONDS, DiskCache
from p2pkit.data.samples import Samples
from p2pkit.images.pixels import StoredPixels, stored
from p2pkit.recipe.resolve import read_recipe
from tests.conftest import Call, lines, train
from tests.test_fingerprints import flip

COUNT = 40
DISK = "loader.cache=disk"
FORK = multiprocessing.get_context("fork")


class Counted:
    """A data set of one file, whose byte all samples show; it counts how many are made, and may draw at random."""

    def __init__(self, file: Path, draws: bool = False) -> None:
        self.source_files, self.made, self._draws = [file], 0, draws

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Sample:
        self.made += 1
        value = self.source_files[0].read_bytes()[0] ^ index ^ (random.randrange(256) if self._draws else 0)
        return Sample(np.full((32, 32, 3), value, np.uint8), np.full((32, 32, 1), index, np.uint16), f"no {index}")

    def fingerprint(self) -> str:
        return str(len(self.source_files[0].read_bytes()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"abc")
    return tmp_path / "a.bin"


def opened(dataset: Any, seed: int = 0, made_by: str = "it") -> Samples:
    return Samples(dataset, "it", "train", seed, cache="disk", made_by=made_by)


def values(samples: Samples) -> list[int]:
    return [int(samples[index].source[0, 0, 0]) for index in range(len(samples))]


def entries(cache_folder: Path) -> list[Path]:
    return sorted(file for file in (cache_folder / "p2pkit" / "samples").rglob("*") if file.is_file())


def image(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def palette_picture() -> Any:
    return stored(image((5, 7, 3), "uint8"), bits=4, profile="Adobe RGB", indices=image((5, 7), "uint8", 1))


SAMPLES = {
    "8 bits": Sample(image((5, 7, 3), "uint8"), image((5, 7, 1), "uint8"), "a/b.png"),
    "several types": Sample(image((5, 7, 3), "uint16"), image((10, 14, 1), ">f4"), "ä\\udcff"),
    "bool and doubles": Sample(image((3, 3, 1), "bool"), image((3, 3, 2), "float64"), "b"),
    "a mask": Sample(image((3, 3, 1), "int32"), image((3, 3, 2), "float16"), "c", image((3, 3, 1), "uint8")),
    "sources": Sample(
        {"z": image((5, 7, 1), "uint8"), "a b": palette_picture(), "target": image((5, 7, 2), "float32")},
        image((5, 7, 3), "uint8"), "d",
    ),
    "what files say": Sample(palette_picture(), stored(image((5, 7, 1), "f4"), nodata=float("nan"), taken="L"), "e"),
    "a source alone": Sample(image((5, 7, 3), "uint8"), None, "f"),
    "a target alone": Sample(None, image((5, 7, 3), "uint8")[:, ::-1], "g"),
}  # fmt: skip


def same(now: Any, before: Any) -> bool:
    """Whether an image is as it was, and lies in memory as caches have it."""
    assert now.transpose(2, 0, 1).flags.c_contiguous and not np.shares_memory(now, before)
    assert type(now) is type(before) and now.dtype == before.dtype
    if isinstance(before, StoredPixels):
        for name in ("bits", "profile", "inverted", "taken"):
            assert getattr(now, name) == getattr(before, name)
        assert repr(now.nodata) == repr(before.nodata)
        assert (before.indices is None) == (now.indices is None)
        assert before.indices is None or np.array_equal(before.indices, now.indices)
    return np.array_equal(now, before)


@pytest.mark.parametrize("called", SAMPLES)
def test_samples_come_back_as_they_were(called: str, tmp_path: Path) -> None:
    sample = SAMPLES[called]
    DiskCache(tmp_path).put(3, 0, sample, drawn=False)
    found = DiskCache(tmp_path).get(3, 0)
    assert found is not None and found.key == sample.key and found.header == sample.header
    sides = [*sample.source] if isinstance(sample.source, dict) else []
    assert not sides or list(found.source) == sides
    for side in (*(f"source.{name}" for name in sides), *(() if sides else ("source",)), "target", "mask"):
        before, now = sample.image(side), found.image(side)
        assert (before is None) == (now is None)
        assert before is None or same(now, before)


@pytest.mark.parametrize("called", ["8 bits", "a mask", "sources", "what files say"])
def test_samples_in_memory_are_as_they_were(called: str) -> None:
    sample = SAMPLES[called]
    samples = Samples([sample], "it", "train", cache="memory")
    for found in (samples[0], samples[0]):  # one that is read, and one that is kept
        assert found is samples[0] and found.key == sample.key and found.header == sample.header
        assert same(found.target, sample.target) and found.mask is sample.mask
        if isinstance(sample.source, dict):
            assert all(found.source[name] is image for name, image in sample.source.items())
        else:
            assert same(found.source, sample.source)


def test_each_sample_is_made_once_whatever_is_opened_later(file: Path) -> None:
    first, second = Counted(file), Counted(file)
    expected = values(opened(first))
    assert values(opened(second)) == expected == [ord("a") ^ index for index in range(COUNT)]
    assert first.made == COUNT and second.made == 0


def test_changed_data_and_other_makers_have_others(file: Path) -> None:
    values(opened(Counted(file)))
    status = file.stat()
    file.write_bytes(b"xbc")  # the data set's own fingerprint does not see it
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert values(opened(Counted(file)))[0] == ord("x")
    other = Counted(file)
    values(opened(other, made_by="another"))
    assert other.made == COUNT


def test_what_is_drawn_goes_with_the_seed_and_is_that_of_the_first_epoch(file: Path) -> None:
    expected = {}
    for seed in (3, 4):
        samples = Samples(Counted(file, draws=True), "it", "train", seed)
        expected[seed] = values(samples)
        assert expected[seed] != [int(samples.read(index, 1).source[0, 0, 0]) for index in range(COUNT)]
        assert values(opened(Counted(file, draws=True), seed)) == expected[seed]
    assert expected[3] != expected[4]
    again = Counted(file, draws=True)
    samples = opened(again, 3)
    assert [int(samples.read(index, 9).source[0, 0, 0]) for index in range(COUNT)] == expected[3] and not again.made


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def change(file: Path) -> None:
    flip(file, -9)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("harm", [cut, empty, change, pipe])
def test_what_is_damaged_is_made_anew(harm: Callable[[Path], None], file: Path, cache_folder: Path) -> None:
    expected = values(opened(Counted(file)))
    harm(entries(cache_folder)[7])
    mends, mended = Counted(file), Counted(file)
    assert values(opened(mends)) == expected and mends.made == 1
    assert values(opened(mended)) == expected and mended.made == 0


def fill(file: Path) -> None:
    values(opened(Counted(file)))


def test_processes_fill_it_at_once(file: Path, cache_folder: Path) -> None:
    processes = [FORK.Process(target=fill, args=(file,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    later = Counted(file)
    assert values(opened(later)) == [ord("a") ^ index for index in range(COUNT)] and later.made == 0
    assert len(entries(cache_folder)) == COUNT


def fill_for_ever(folder: Path) -> None:
    cache, large = DiskCache(folder), np.zeros((500, 500, 3), np.uint8)
    while True:
        for index in range(COUNT):
            cache.put(index, 0, Sample(large + np.uint8(index), large, str(index)), drawn=False)


def test_a_kill_leaves_nothing_but_whole_samples(cache_folder: Path) -> None:
    cache = DiskCache.of(["it"])
    assert cache is not None
    for pause in (0.0, 0.003, 0.011):
        process = FORK.Process(target=fill_for_ever, args=(cache.folder,))
        process.start()
        while not (cache.folder.is_dir() and any(cache.folder.iterdir())):
            time.sleep(0.001)
        time.sleep(pause)
        process.kill()
        process.join(60)
        cache = DiskCache.of(["it"])
        assert cache is not None
        found = [index for index in range(COUNT) if (cache.folder / str(index)).exists()]
        for index in found:
            sample = cache.get(index, 0)
            assert sample is not None and sample.key == str(index) and (sample.source == index).all()
        assert len(entries(cache_folder)) == len(found), "nothing unfinished is left"


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")  # where root may not write either


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_cache, "LEFT_FREE", 2**62)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("harm", [forbid, fill_the_disk])
def test_a_disk_that_takes_nothing_is_reported_and_ends_no_run(
    harm: Callable[[pytest.MonkeyPatch], None], workers: int, recipe: Path, tmp_path: Path, p2pkit: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    harm(monkeypatch)
    settings = ("--set", DISK, "--set", f"loader.workers={workers}")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    said = [line for line in outcome.err.splitlines() if "no more samples are kept" in line]
    assert outcome.code == 0 and 0 < len(said) == len(set(said)) <= 2, "once for each set"
    without = train(p2pkit, recipe, tmp_path / "without")
    assert losses(without) == losses(tmp_path / "run")


def losses(run: Path) -> list[float]:
    return [line["generator/l1"] for line in lines(run) if line["split"] == "train"]


def test_a_data_set_that_cannot_tell_when_it_changes_is_not_kept(cache_folder: Path) -> None:
    pair = image((8, 8, 3), "uint8"), image((8, 8, 3), "uint8")
    samples = opened([pair, pair])
    assert len(samples[0].source) == 8 and "none are kept" in samples.notices[0] and not entries(cache_folder)


def test_what_nobody_has_used_for_long_is_removed(file: Path, cache_folder: Path) -> None:
    fill(file)
    samples = entries(cache_folder)[0].parent
    mine = samples.with_name("mine")
    mine.mkdir()
    past = time.time() - FORGOTTEN_AFTER_SECONDS - 60
    for folder in (samples, mine):
        os.utime(folder, (past, past))
    fill(file)
    assert samples.is_dir(), "it is used again"
    os.utime(samples, (past, past))
    opened(Counted(file), made_by="another")[0]
    assert not samples.is_dir() and mine.is_dir()


def test_runs_of_other_directions_and_of_workers_train_as_without(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    for direction in ("AtoB", "BtoA"):
        found = []
        for name, *settings in (("none",), ("first", DISK), ("then", DISK, "loader.workers=1")):
            run = train(p2pkit, recipe, tmp_path / f"{direction} {name}", f"data.direction={direction}", *settings)
            found.append(losses(run))
        assert found[0] == found[1] == found[2] and len(found[0]) == 4


def test_a_check_reads_the_files_and_not_what_is_kept_of_them(
    recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 120, 3), dtype=np.uint8)
    file = pairs / "train" / "3.png"
    Image.fromarray(noise).save(file)
    train(p2pkit, recipe, tmp_path / "run", DISK)
    flip(file, file.stat().st_size // 4)
    assert p2pkit("check", recipe, "--set", DISK).code == 0
    outcome = p2pkit("data", "check", recipe, "--set", DISK)
    assert outcome.code == 2 and "3.png" in outcome.err


@pytest.mark.parametrize(("said", "meant"), [(True, "memory"), (False, "none")])
def test_what_recipes_of_earlier_runs_say_is_understood(said: bool, meant: str, recipe: Path) -> None:
    assert read_recipe(recipe, {"loader.cache": said}).loader.cache == meant
