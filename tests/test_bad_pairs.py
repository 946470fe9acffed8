"""Pairs that cannot be used: found by their headers before a run begins, and what a recipe makes of them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2pkit import build
from p2pkit.contracts import PairedDataset, Sample
from p2pkit.data.loader import EpochSampler
from p2pkit.inference.model_file import read_model
from p2pkit.recipe.recipe import Chosen
from p2pkit.utils.progress import Progress, print_line
from p2pkit.utils.tensor_file import checksum
from tests.conftest import Call, Outcome, lines, picture, save

SKIP = ("--set", 'loader.bad_data="skip"')
TRIVIAL = ("mean_target/", "nearest_source/")
"""What metrics.jsonl says of trivial translators, which pass over bad pairs."""


def truncate(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def spoil_the_middle(file: Path) -> Path:
    """Leave the header and the end of a PNG as they are; its pixels cannot be decoded."""
    content = bytearray(file.read_bytes())
    pixels = content.index(b"IDAT") + len(b"IDAT")
    content[pixels : pixels + 16] = bytes(16)
    file.write_bytes(content)
    return file


def truncated_files(root: Path) -> list[str]:
    """A PNG and a JPEG to train on and a test PNG, cut in half; their keys."""
    (root / "train" / "4.png").unlink()
    Image.fromarray(picture(24, 48, 4)).resize((480, 240)).save(root / "train" / "4.jpg")
    return [str(truncate(root / key).relative_to(root)) for key in ("train/2.png", "train/4.jpg", "test/1.png")]


def reported(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("NOTICE: skipped: ")]


def listed(run: Path) -> list[str]:
    return [json.loads(line)["message"] for line in (run / "bad_data.jsonl").read_text().splitlines()]


def test_a_run_lists_all_truncated_files_before_it_begins(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    bad = [*truncated_files(pairs), str(truncate(pairs / "train" / "0.png").relative_to(pairs))]
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run")
    assert outcome.code == 2 and "4 of 8 pairs cannot be used" in outcome.err
    assert all(key in outcome.err for key in bad) and 'loader.bad_data = "skip"' in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_looks_at_its_data_before_it_trains(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run).code == 0
    truncate(pairs / "train" / "2.png")
    outcome = p2pkit("run", "--resume", run, "--accept-changed-data")
    assert outcome.code == 2 and "1 of 8 pairs" in outcome.err and "resuming from" not in outcome.err


def test_skipping_trains_to_the_end_and_reports_each_bad_pair_once(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    bad = truncated_files(pairs)
    models = []
    for workers in (0, 2):
        run = tmp_path / f"{workers}"
        settings = ("--set", "train.max_steps=9", "--set", f"loader.workers={workers}")
        outcome = p2pkit("run", recipe, "--out", run, *SKIP, *settings)
        assert outcome.code == 0, outcome.err
        assert "NOTICE: 3 of 8 pairs cannot be used and are skipped:" in outcome.err
        assert "skipped: 3, listed in" in outcome.err and "validation/mae" in outcome.out
        assert [sum(key in line for line in reported(outcome)) for key in bad] == [1, 1, 1]
        assert [sum(key in line for line in listed(run)) for key in bad] == [1, 1, 1]
        header, weights = read_model(run / "model.safetensors")
        models.append((header.model_copy(update={"recipe": ""}), checksum(weights)))
    assert models[0] == models[1]


def test_a_bad_pair_gives_its_place_to_the_next_one(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    """Where the jitter is none, a bad pair trains as a copy of the next one would; the last as a copy of the first."""
    plain = ("--set", "transform.flip=false", "--set", "transform.crop_size=24", "--set", "transform.load_size=24")
    models = []
    for spoil in (lambda good, bad: shutil.copy(good, bad), lambda _, bad: spoil_the_middle(bad)):
        spoil(pairs / "train" / "3.png", pairs / "train" / "2.png")
        spoil(pairs / "train" / "0.png", pairs / "train" / "5.png")
        run = tmp_path / str(len(models))
        assert p2pkit("run", recipe, "--out", run, *SKIP, *plain).code == 0
        kept = [{key: value for key, value in line.items() if not key.startswith(TRIVIAL)} for line in lines(run)]
        models.append(kept)
    assert models[0] == models[1]


def test_a_resumed_run_skips_alike_and_reports_nothing_twice(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    bad = truncated_files(pairs)
    settings = (*SKIP, "--set", "train.max_steps=9", "--set", "train.keep_checkpoints=9")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for run in (whole, cut):
        assert p2pkit("run", recipe, "--out", run, *settings).code == 0
    for folder in (cut / "checkpoints").iterdir():
        if folder.name > "step_00000004":  # as a kill after step 4 would leave it
            shutil.rmtree(folder)
    (cut / "model.safetensors").unlink()
    with (cut / "bad_data.jsonl").open("a") as file:
        file.write('{"step": 5, "mess')
    resumed = p2pkit("run", "--resume", cut)
    assert resumed.code == 0 and "resuming from step 4" in resumed.err
    assert reported(resumed) == [] and f"skipped: {len(bad)}, listed in" in resumed.err
    for name in ("model.safetensors", "metrics.jsonl", "bad_data.jsonl"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_a_test_pair_that_only_measuring_meets_is_reported_too(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    for index in range(2, 6):
        save(pairs / "test" / f"{index}.png", picture(24, 48, index))
    spoil_the_middle(pairs / "test" / "2.png")  # sample grids show 0, 1, 3 and 4
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *SKIP)
    assert outcome.code == 0 and "validation/mae" in outcome.out
    assert len(reported(outcome)) == 1 and "test/2.png" in reported(outcome)[0]
    assert p2pkit("run", recipe, "--out", tmp_path / "stopped").code == 2


def test_a_run_that_begins_again_reports_again(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    bad = [spoil_the_middle(pairs / "train" / f"{index}.png") for index in range(1, 6)]
    settings = (*SKIP, "--set", "train.max_steps=9", "--set", "train.checkpoint_every=100")
    failed = p2pkit("run", recipe, "--out", tmp_path / "run", *settings, "--set", "optimizer.lr=1e15")
    assert failed.code == 2 and "is not finite" in failed.err and reported(failed)
    again = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert again.code == 0 and len(reported(again)) == len(listed(tmp_path / "run")) == len(bad)


def test_what_no_header_says_stops_the_run_with_a_checkpoint_or_is_skipped(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    file = pairs / "train" / "3.png"
    whole = file.read_bytes()
    spoil_the_middle(file)
    run = tmp_path / "run"
    settings = ("--set", "loader.batch_size=1", "--set", "train.max_steps=12", "--set", "train.checkpoint_every=100")
    stopped = p2pkit("run", recipe, "--out", run, *settings)
    assert stopped.code == 2 and f"{file}: the image cannot be read" in stopped.err
    assert f"--resume {run} --accept-changed-data" in stopped.err
    reached = int(next((run / "checkpoints").iterdir()).name.removeprefix("step_"))
    assert reached > 0
    skipped = p2pkit("run", recipe, "--out", tmp_path / "skipped", *settings, *SKIP)
    assert skipped.code == 0 and len(reported(skipped)) == 1 and str(file) in reported(skipped)[0]
    save(file, picture(24, 48, 9))
    changed = p2pkit("run", "--resume", run)
    assert changed.code == 2 and "fingerprint" in changed.err
    file.write_bytes(whole)
    resumed = p2pkit("run", "--resume", run, "--accept-changed-data")
    assert resumed.code == 0 and f"resuming from step {reached}" in resumed.err


@pytest.mark.parametrize("spoil", [truncate, spoil_the_middle])
def test_the_first_pair_may_be_the_bad_one(
    spoil: Callable[[Path], Path], pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    for key in ("train/0.png", "test/0.png"):
        spoil(pairs / key)
    checked = p2pkit("data", "check", recipe)
    assert checked.code == 2 and "2 of 8 pairs" in checked.err and "train/0.png" in checked.err
    assert p2pkit("check", recipe).code == 2
    assert p2pkit("run", recipe, "--out", tmp_path / "stopped").code == 2
    assert p2pkit("check", recipe, *SKIP).code == 0
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *SKIP)
    assert outcome.code == 0, outcome.err
    assert len(reported(outcome)) == 2


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("spoil", [truncate, spoil_the_middle])
def test_where_no_pair_can_be_used_skipping_does_not_help(
    split: str, spoil: Callable[[Path], Path], pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    files = [spoil(file) for file in (pairs / split).iterdir()]
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *SKIP)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert f"{len(files)} pairs can be used" in outcome.err or f"{len(files)} of 8 pairs cannot" in outcome.err
    assert str(sorted(files)[0]) in outcome.err
    assert not (tmp_path / "run").exists()


def test_other_channels_and_images_below_the_crop_are_skipped(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    save(pairs / "train" / "1.png", picture(24, 48, 0, channels=1))
    save(pairs / "train" / "2.png", picture(12, 48, 0))
    save(pairs / "train" / "3.png", picture(12, 48, 1))
    recipe.write_text(recipe.read_text().replace("load_size = 20\n", ""))
    stopped = p2pkit("run", recipe, "--out", tmp_path / "stopped")
    assert stopped.code == 2 and "3 of 8 pairs" in stopped.err
    assert "train/1.png: its source has 1 channel" in stopped.err
    assert "train/2.png: the image is 12x24" in stopped.err and "(and 1 more of that shape)" in stopped.err
    skipped = p2pkit("run", recipe, "--out", tmp_path / "run", *SKIP)
    assert skipped.code == 0 and len(reported(skipped)) == 3


def test_skipping_does_not_mend_sizes_that_no_batch_can_hold(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    save(pairs / "train" / "3.png", picture(32, 48, 0))
    recipe.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16\n", ""))
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *SKIP)
    assert outcome.code == 2
    assert "train/3.png: it differs in size from train/0.png" in outcome.err and "transform.load_size" in outcome.err


@pytest.fixture
def headers_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read, as they are."""
    from p2pkit.builtin.datasets import side_by_side

    read: list[str] = []
    real = side_by_side.image_header

    def counted(file: Path) -> tuple[int, int, int]:
        read.append(file.name)
        return real(file)

    monkeypatch.setattr(side_by_side, "image_header", counted)
    return read


def test_headers_are_read_once_until_the_data_changes(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path, headers_read: list[str]
) -> None:
    reads = []
    for number in range(3):
        if number == 2:
            save(pairs / "train" / "6.png", picture(24, 48, 6))
        assert p2pkit("run", recipe, "--out", tmp_path / str(number)).code == 0
        reads.append(len(headers_read))
    assert reads == [8, 8, 17]


def test_what_is_known_of_headers_meets_the_rules_of_each_recipe(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path, headers_read: list[str]
) -> None:
    recipe.write_text(recipe.read_text().replace("load_size = 20\n", ""))
    assert p2pkit("run", recipe, "--out", tmp_path / "run").code == 0
    outcome = p2pkit("run", recipe, "--out", tmp_path / "other", "--set", "transform.crop_size=32")
    assert outcome.code == 2 and "6 of 8 pairs" in outcome.err
    assert len(headers_read) == 8


def test_a_file_that_was_bad_is_looked_at_again(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path, headers_read: list[str]
) -> None:
    file = pairs / "train" / "3.png"
    whole = file.read_bytes()
    file.write_bytes(bytes(len(whole)))
    for read in (8, 1):  # those that are known to be whole are not
        headers_read.clear()
        assert p2pkit("run", recipe, "--out", tmp_path / "run").code == 2
        assert len(headers_read) == read and "3.png" in headers_read
    file.write_bytes(whole)
    assert p2pkit("run", recipe, "--out", tmp_path / "run").code == 0


def a_file_in_its_place(cache: Path) -> None:
    cache.rmdir()
    cache.write_text("")


def damage(cache: Path) -> None:
    (file,) = cache.rglob("*.json")
    file.write_text('{"groups": [{}]}')


@pytest.mark.parametrize("harm", [a_file_in_its_place, damage])
def test_a_cache_that_cannot_be_used_is_not(
    harm: Callable[[Path], None], cache_folder: Path, pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    if harm is damage:
        assert p2pkit("run", recipe, "--out", tmp_path / "before").code == 0
    harm(cache_folder)
    assert p2pkit("run", recipe, "--out", tmp_path / "run").code == 0
    truncate(pairs / "train" / "3.png")
    assert p2pkit("run", recipe, "--out", tmp_path / "other").code == 2


class WithoutHeaders:
    """A data set that offers no more than a data set must."""

    def __init__(self, pairs: PairedDataset) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return self._pairs[index]

    def fingerprint(self) -> str:
        return self._pairs.fingerprint()


def test_a_data_set_without_headers_is_read_as_it_comes(
    pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = build.make

    def made(chosen: Chosen, **supplied: Any) -> Any:
        component = make(chosen, **supplied)
        return WithoutHeaders(component) if "split" in supplied else component

    monkeypatch.setattr(build, "make", made)
    truncate(pairs / "train" / "3.png")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "train.max_steps=12")
    assert outcome.code == 2 and "the image cannot be read" in outcome.err and "checking headers" not in outcome.err
    assert (tmp_path / "run" / "recipe.toml").exists()


def test_a_notice_is_one_line_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    message = "NOTICE: skipped: " + "a/long/path/" * 20
    with Progress("training", 2, "step") as progress:
        progress.advance()
        print_line(message)
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert f"{message}\n" in shown and "training" in shown


def test_bad_pairs_behind_the_last_step_do_not_matter(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    first_batch = {index for _, index in next(iter(EpochSampler(6, 2, seed=0, first_step=0, rank=0, processes=1)))}
    for index in set(range(6)) - first_batch:
        spoil_the_middle(pairs / "train" / f"{index}.png")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "train.max_steps=1")
    assert outcome.code == 0, outcome.err
    assert p2pkit("run", "--resume", tmp_path / "run").code == 0


@pytest.mark.parametrize("name", ["side_by_side", "paired_folders"])
def test_names_with_blanks_make_no_kinds_of_their_own(name: str, tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    root = tmp_path / "my data"
    streets = ("Ulm main street", "Bad Tölz am Markt", "Aachen, (old) town", "v1.2 of a", "x")
    files = [f"{street} {number}.png" for number, street in enumerate(streets * 4)]
    for number, file in enumerate(files):
        sides = ("train",) if name == "side_by_side" else ("train/source", "train/target")
        for side in sides:
            save(root / side / file, picture(24, 24, number))
        spoiled = root / sides[0] / file
        if number < 5:
            spoiled.write_bytes(b"")
        elif number < 10:
            truncate(spoiled)
        elif number < 15:
            save(spoiled, picture(24, 23, number))
    settings = (f'data={{name = "{name}", root = "{root}"}}', "transform.keep_aspect=true")
    outcome = p2pkit("check", recipe, *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 2 and "3 kinds of trouble" in outcome.err, outcome.err
    assert outcome.err.count("5 pairs cannot be used, such as") == 3, outcome.err
