"""``p2pkit data shard``: what it writes, that it is exact and repeatable, and that nothing half is left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import p2pkit as library
from p2pkit.contracts import Sample
from p2pkit.errors import DataError
from p2pkit.images.pixels import FULL_SCALE, as_indices, stored
from p2pkit.images.reading import read_image, read_image_bytes
from p2pkit_webdataset.dataset import WebDataset
from p2pkit_webdataset.writing import make_shards
from tests.conftest import Call, picture, train
from tests.failing import failing_reads


class Pairs:
    """A data set of given pixels."""

    def __init__(self, *pixels: Any, key: str = "{}") -> None:
        self._pixels, self._key = pixels, key

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._pixels[index], self._pixels[-1 - index], self._key.format(index))

    def fingerprint(self) -> str:
        return "these"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_val_set_comes_back_as_such(recipe: Path, pairs: Path, tmp_path: Path, program: Call) -> None:
    (pairs / "test").rename(pairs / "val")
    outcome = program("data", "shard", recipe, "--out", tmp_path / "shards")
    assert outcome.code == 0 and "6 training pairs, 2 val pairs, 0 test pairs" in outcome.out
    assert [len(WebDataset(split, tmp_path / "shards")) for split in ("train", "val", "test")] == [6, 2, 0]


def test_unpaired_data_is_not_sharded(recipe: Path, pairs: Path, tmp_path: Path, program: Call) -> None:
    for split, side in (("train", "source"), ("test", "target")):
        (pairs / split).rename(pairs / side)
    chosen = f'data={{name = "unpaired_folders", root = "{pairs}"}}'
    outcome = program("data", "shard", recipe, "--out", tmp_path / "shards", "--set", chosen)
    assert outcome.code == 2 and "unpaired; shards hold pairs" in outcome.err and not (tmp_path / "shards").exists()


def test_lab_is_taken_of_shards_and_not_written_to_them(recipe: Path, tmp_path: Path, program: Call) -> None:
    lab = ("--set", 'source.channels="lab_L"', "--set", 'target.channels="lab_ab"')
    outcome = program("data", "shard", recipe, "--out", tmp_path / "shards", *lab)
    assert outcome.code == 2 and "add --set source.channels=rgb --set target.channels=rgb" in outcome.err
    rgb = ("--set", 'source.channels="rgb"', "--set", 'target.channels="rgb"')
    assert program("data", "shard", recipe, "--out", tmp_path / "shards", *lab, *rgb).code == 0
    train(program, recipe, tmp_path / "run", f'data={{name="webdataset", root="{tmp_path / "shards"}"}}', *lab[1::2])


def test_what_is_written(shards: Path, recipe: Path, pairs: Path) -> None:
    files = [f"train/shard-00000{number}.tar" for number in range(3)]
    assert sorted(contents(shards)) == [
        "made_of.json", "test/shard-000000.tar", "test/shards.json", *files, "train/shards.json",
    ]  # fmt: skip
    stored = {}
    for file in files:
        with tarfile.open(shards / file) as tar:
            names = tar.getnames()
            # one key for the two members of a pair, one after the other, as WebDataset groups them
            keys = [re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name) for name in names]
            assert [found and found[2] for found in keys] == ["source.png", "target.png"] * 2
            assert keys[0] and keys[1] and keys[0][1] == keys[1][1]
            for name in names:
                member = tar.extractfile(name)
                assert member is not None
                stored[name] = read_image_bytes(member.read(), name)
    data = library.load_data(recipe)
    assert len(stored) == 2 * len(data.train) == 12
    for index in range(6):
        pair = data.train[index]
        quoted = pair.key.replace(".", "%2E")
        assert np.array_equal(stored[f"{quoted}.source.png"], pair.source)
        assert np.array_equal(stored[f"{quoted}.target.png"], pair.target)


def test_keys_and_pixels_come_back(shards: Path, recipe: Path) -> None:
    data = library.load_data(recipe)
    for split, whole in (("train", data.train), ("test", data.test)):
        read = WebDataset(split, shards)
        assert len(read) == len(whole) and sum(read.shards) == len(whole)
        by_key = {pair.key: pair for pair in (read[index] for index in range(len(read)))}
        for index in range(len(whole)):
            pair = whole[index]
            assert np.array_equal(by_key[pair.key].source, pair.source)
            assert np.array_equal(by_key[pair.key].target, pair.target)
    with pytest.raises(IndexError):
        read[len(read)]


RANDOM = np.random.default_rng(0)
PIXELS = [
    *(RANDOM.integers(0, 256, (5, 7, channels), dtype=np.uint8) for channels in (1, 2, 3, 4, 5)),
    *(RANDOM.integers(0, 65536, (5, 7, channels), dtype=np.uint16) for channels in (1, 3)),
    *(RANDOM.random((5, 7, 3)).astype(dtype) for dtype in (np.float32, np.float64)),
    RANDOM.integers(-9, 9, (5, 7, 2), dtype=np.int32),
]


def test_pixels_of_every_kind_are_kept_exactly(tmp_path: Path) -> None:
    pairs = Pairs(*PIXELS, key="a.b/../{}.x.png")
    make_shards({"test": pairs}, "f", tmp_path / "out", 4)
    read = WebDataset("test", tmp_path / "out")
    for index, pixels in enumerate(PIXELS):
        pair = read[index]
        assert pair.key == f"a.b/../{index}.x.png"
        assert pair.source.dtype == pixels.dtype and np.array_equal(pair.source, pixels)
        assert np.array_equal(pair.target, PIXELS[-1 - index])
    with tarfile.open(tmp_path / "out" / "test" / "shard-000001.tar") as tar:
        endings = [name.rpartition(".")[2] for name in tar.getnames()]
        assert set(endings) == {"png", "npy"} and not any(".." in name for name in tar.getnames())


def test_bool_of_several_channels_and_palettes_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags, numbers = RANDOM.random((24, 24, 3)) < 0.5, RANDOM.integers(0, 5, (24, 20)).astype(np.uint8)
    np.save(tmp_path / "flags.npy", flags)
    image = Image.fromarray(numbers)
    image.putpalette(bytes([9, 9, 9, 9, 9, 9, 1, 2, 3, 7, 7, 7, 200, 0, 0]))  # two numbers of one colour
    image.save(tmp_path / "map.png")
    given = [
        read_image(tmp_path / "flags.npy"),
        read_image(tmp_path / "map.png"),
        read_image(tmp_path / "map.png")[:, 5:],
    ]
    make_shards({"test": Pairs(*given)}, "f", tmp_path / "out", 4)
    read = WebDataset("test", tmp_path / "out")
    for index, pixels in enumerate(given):
        found = read[index].source
        assert found.dtype == np.uint8 and np.array_equal(found, pixels)
        assert np.array_equal(as_indices(found), as_indices(pixels))
    assert np.array_equal(as_indices(read[0].source), flags)
    assert np.array_equal(as_indices(read[2].source)[:, :, 0], numbers[:, 5:])
    assert "lose" not in capsys.readouterr().err


def test_shards_know_that_their_sources_were_halves(
    shards: Path, sharded: Path, pairs: Path, program: Call, tmp_path: Path
) -> None:
    assert WebDataset("train", shards).stored_as == "left half"
    run = train(program, sharded, tmp_path / "run", "train.max_steps=1", "train.checkpoint_every=1")
    outcome = program("translate", run, pairs / "test", "--out", tmp_path / "out")
    assert outcome.code == 0 and "taken as two images side by side" in outcome.err, outcome.err
    for file in (pairs / "test").iterdir():
        left = np.asarray(Image.open(file))[:, :24]
        assert np.array_equal(read_image(tmp_path / "out" / file.name), library.load_model(run, "cpu")(left))


def test_what_files_say_of_their_pixels_is_kept_or_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = [
        stored(RANDOM.integers(0, 2**bits, (5, 7, 1)).astype(np.uint8) * FULL_SCALE[bits], bits) for bits in (1, 2, 4)
    ]
    for dtype, nodata in ((np.uint8, 3.0), (np.int16, -9999.0), (np.float32, float(np.finfo(np.float32).min))):
        image = RANDOM.integers(0, 9, (5, 7, 2)).astype(dtype)
        image[2, 3] = nodata
        pixels.append(stored(image, nodata=nodata))
    pixels.append(stored(np.full((5, 7, 1), 9, np.uint8), profile="Display P3", inverted=255))
    make_shards({"test": Pairs(*pixels)}, "f", tmp_path / "out", 4)
    read = WebDataset("test", tmp_path / "out")
    for index, given in enumerate(pixels):
        found = read[index].source
        assert found.dtype == given.dtype and np.array_equal(found, given)
        for name in ("bits", "nodata"):
            assert getattr(found, name, None) == (getattr(given, name) if index < 6 else None)
        assert np.array_equal(as_indices(found), as_indices(given)) or index == 6
    printed = capsys.readouterr().err
    assert "NOTICE: 2 images lose the colour profile in shards" in printed
    assert "NOTICE: 2 images lose that the file has 0 for white" in printed and printed.count("NOTICE") == 2


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (Pairs(np.zeros((4, 4, 1), dtype=np.complex64)), "0: pixels of type complex64"),
        (Pairs(*[np.zeros((4, 4, 1), dtype=np.uint8)] * 2, key="same"), "the keys of a data set must differ"),
        (Pairs(np.zeros((4, 4, 1), dtype=np.uint8), key=""), "cannot name a file"),
        (Pairs(np.zeros((4, 4, 1), dtype=np.uint8), key="folder/"), "cannot name a file"),
    ],
)
def test_what_cannot_be_sharded_is_reported(pairs: Pairs, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected):
        make_shards({"train": pairs}, "f", tmp_path / "out", 4)
    assert not list(tmp_path.rglob("*.tar")) and not list(tmp_path.rglob("*.part"))


def test_the_same_data_gives_the_same_bytes_in_an_order_of_its_own(
    program: Call, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    again = program("data", "shard", recipe, "--out", tmp_path / "again", "--pairs-per-shard", 2)
    assert again.code == 0 and contents(tmp_path / "again") == contents(shards)
    keys = [WebDataset("train", shards)[index].key for index in range(6)]
    assert keys != sorted(keys)


def test_a_folder_with_anything_else_is_refused(program: Call, shards: Path, recipe: Path, tmp_path: Path) -> None:
    finished = program("data", "shard", recipe, "--out", shards)  # of another size
    assert finished.code == 2 and "it holds other files" in finished.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".model.safetensors.1.part").write_text("of a run")
    assert program("data", "shard", recipe, "--out", tmp_path / "other").code == 2
    (tmp_path / "other" / ".model.safetensors.1.part").rename(tmp_path / "kept.part")
    (tmp_path / "other" / "unfinished.json").write_text("something else")
    other = program("data", "shard", recipe, "--out", tmp_path / "other")
    assert other.code == 2 and "unfinished shards of other data" in other.err
    assert contents(tmp_path / "other") == {"unfinished.json": b"something else"}


def test_finished_shards_are_not_made_again(program: Call, shards: Path, recipe: Path) -> None:
    before = contents(shards)
    again = program("data", "shard", recipe, "--out", shards, "--pairs-per-shard", 2)
    assert again.code == 0 and "all is there already" in again.out and contents(shards) == before


def test_a_shard_that_was_damaged_between_attempts_is_made_again(program: Call, shards: Path, recipe: Path) -> None:
    whole = contents(shards)
    (shards / "made_of.json").rename(shards / "unfinished.json")
    (shards / "train" / "shard-000001.tar").write_bytes(b"damaged")
    again = program("data", "shard", recipe, "--out", shards, "--pairs-per-shard", 2)
    assert again.code == 0 and contents(shards) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_whole_shards_and_the_same_command_resumes(
    program: Call, plugins: Path, tmp_path: Path, number: int
) -> None:
    recipe = tmp_path / "drawn.toml"
    recipe.write_text('[data]\nname = "procedural_facades"\n')
    arguments = ("data", "shard", recipe, "--pairs-per-shard", 5)
    small = ("--set", "data.size=32", "--set", "data.pairs=100", "--set", "data.test_pairs=4")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert program(*arguments, *small, "--out", whole).code == 0
    command = ["--plugins-dir", plugins, *arguments, *small, "--out", cut]
    running = subprocess.Popen(
        [sys.executable, "-m", "p2pkit", *map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (cut / "train" / "shard-000001.tar").exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(running.pid, number)
    errors = running.communicate(timeout=60)[1]
    assert running.returncode == (130 if number == signal.SIGINT else -number), errors
    assert "Traceback" not in errors
    left = contents(cut)
    assert {name for name in left if name.endswith(".tar")} < {
        name for name in contents(whole) if name.endswith(".tar")
    }
    kept = {name: (cut / name).stat().st_mtime_ns for name in left if name.endswith(".tar")}
    assert all(content == contents(whole)[name] for name, content in left.items() if name in kept)
    assert program(*arguments, *small, "--out", cut).code == 0
    assert contents(cut) == contents(whole)
    assert {name: (cut / name).stat().st_mtime_ns for name in kept} == kept


def test_help_imports_no_torch(plugins: Path) -> None:
    code = (
        "import sys\nfrom p2pkit.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    assert 'torch' not in sys.modules and 'pydantic' not in sys.modules\n    print('none')"
    )
    arguments = ("--plugins-dir", str(plugins), "data", "--help")
    helped = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "shard" in helped.stdout and helped.stdout.endswith("none\n")


def test_the_index_says_what_each_shard_must_be(shards: Path) -> None:
    index = json.loads((shards / "train" / "shards.json").read_text())
    assert index["version"] == 1 and [shard["pairs"] for shard in index["shards"]] == [2, 2, 2]
    assert [shard["size"] for shard in index["shards"]] == [
        (shards / "train" / shard["name"]).stat().st_size for shard in index["shards"]
    ]


def test_shards_know_that_their_sources_were_planes(program: Call, tmp_path: Path, sharded: Path) -> None:
    for split in ("train", "test"):
        planes = np.stack([picture(24, 24, plane, channels=1)[:, :, 0] for plane in range(4)])
        for side in ("source", "target"):
            file = tmp_path / "stacks" / split / side / "0.tif"
            file.parent.mkdir(parents=True)
            tifffile.imwrite(file, planes, photometric="minisblack")
    recipe = tmp_path / "stacks.toml"
    recipe.write_text(f'[data]\nname = "volume_slices"\nroot = "{tmp_path / "stacks"}"\nneighbours = 1\n')
    outcome = program("data", "shard", recipe, "--out", tmp_path / "planes")
    assert outcome.code == 0, outcome.err
    sharded.write_text(re.sub(r'root = ".*"', f'root = "{tmp_path / "planes"}"', sharded.read_text()))
    run = train(program, sharded, tmp_path / "run", "train.max_steps=1", "train.checkpoint_every=1")
    outcome = program("translate", run, tmp_path / "stacks" / "test" / "source", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert tifffile.imread(tmp_path / "out" / "0.tif").shape == (4, 24, 24)


@pytest.mark.parametrize("name", ["unfinished.json", "made_of.json"])
@pytest.mark.parametrize("what", ["FIFO", "error"])
def test_a_record_that_cannot_be_read_is_no_reason_to_begin_anew(
    name: str, what: str, recipe: Path, tmp_path: Path, program: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "shards"
    out.mkdir()
    if what == "FIFO":
        os.mkfifo(out / name)
        refused = program("data", "shard", recipe, "--out", out)
        assert refused.code == 2 and f"{name}: this is a FIFO" in refused.err
        return
    (out / name).write_text("{}")
    with failing_reads(1, 10**9, errno.EIO, lambda path: path.endswith(name)):
        refused = program("data", "shard", recipe, "--out", out)
    assert refused.code == 2 and "Input/output error; nothing has been changed" in refused.err
    assert (out / name).read_text() == "{}"
