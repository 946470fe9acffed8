"""Sources that are halves of files, and samples of a data set: each becomes one output, of the source alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.inference.files import FileOptions
from p2pkit.translations import translate_data
from tests.conftest import SMALL, Call, distribution, picture, save, train
from tests.test_translating_files import contents


@pytest.fixture
def run(recipe: Path, tmp_path: Path, p2pkit: Call) -> Path:
    return train(p2pkit, recipe, tmp_path / "run")


def halves(pairs: Path, into: Path) -> tuple[Path, Path]:
    """The left and the right halves of the test pairs, in two folders."""
    for file in sorted((pairs / "test").iterdir()):
        pixels = np.asarray(Image.open(file))
        save(into / "left" / file.name, pixels[:, :24])
        save(into / "right" / file.name, pixels[:, 24:])
    return into / "left", into / "right"


@pytest.mark.parametrize(("direction", "side"), [("AtoB", 0), ("BtoA", 1)])
def test_a_folder_of_pairs_side_by_side_becomes_one_output_a_source(
    direction: str, side: int, recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", f'data.direction="{direction}"')
    sources = halves(pairs, tmp_path)[side]
    assert p2pkit("translate", run, sources, "--out", tmp_path / "expected").code == 0
    outcome = p2pkit("translate", run, pairs / "test", "--out", tmp_path / "o")
    half = ("left half", "right half")[side]
    assert outcome.code == 0 and "NOTICE: 2 of the files are taken as two images side by side" in outcome.err
    assert f"of which the {half} is translated, and 0 as single images; --as image or --as" in outcome.err
    assert contents(tmp_path / "o") == contents(tmp_path / "expected")
    assert Image.open(tmp_path / "o" / "0.png").size == (24, 24)
    # single images are known by their shape, here beside the others
    mixed = tmp_path / "mixed"
    shutil.copytree(pairs / "test", mixed)
    save(mixed / "single.png", picture(24, 24, 5))
    outcome = p2pkit("translate", run, mixed, "--out", tmp_path / "m")
    assert f"{half} is translated, and 1 as single images" in outcome.err
    assert contents(tmp_path / "m").items() >= contents(tmp_path / "expected").items()
    assert Image.open(tmp_path / "m" / "single.png").size == (24, 24)
    # in tiles, and from Python
    for folder, inputs in (("tiles", pairs / "test"), ("tiles of halves", sources)):
        tiled = ("--tile", 16, "--size", "native", "--out", tmp_path / folder)
        assert p2pkit("translate", run, inputs, *tiled).code == 0
    assert contents(tmp_path / "tiles") == contents(tmp_path / "tiles of halves")
    translate = library.load_model(run, "cpu")
    expected = np.asarray(translate(sources / "0.png"))
    assert np.array_equal(np.asarray(translate(pairs / "test" / "0.png")), expected)
    assert translate(pairs / "test" / "0.png", stored_as="image").size == (48, 24)


def test_how_files_are_stored_can_be_said(run: Path, model: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    whole = p2pkit("translate", run, pairs / "test", "--out", tmp_path / "whole", "--as", "image")
    assert whole.code == 0 and "NOTICE" not in whole.err
    assert Image.open(tmp_path / "whole" / "0.png").size == (48, 24)
    save(tmp_path / "odd" / "odd.png", picture(24, 31, 1))
    save(tmp_path / "odd" / "even.png", picture(24, 30, 1))
    outcome = p2pkit("translate", run, tmp_path / "odd", "--out", tmp_path / "o", "--as", "side_by_side")
    assert outcome.code == 2 and "odd.png: it is 31 pixels wide" in outcome.err
    assert Image.open(tmp_path / "o" / "even.png").size == (15, 24)
    # a model of whole files: the left half, and that is said
    left, _ = halves(pairs, tmp_path)
    outcome = p2pkit("translate", model, pairs / "test", "--out", tmp_path / "l", "--as", "side_by_side")
    assert outcome.code == 0 and "the left half of each is translated" in outcome.err
    assert p2pkit("translate", model, left, "--out", tmp_path / "expected").code == 0
    assert contents(tmp_path / "l") == contents(tmp_path / "expected")
    for side, half in zip(("left", "right"), halves(pairs, tmp_path), strict=True):
        for trained in (run, model):
            out = tmp_path / f"{side} {trained.name}"
            outcome = p2pkit("translate", trained, pairs / "test", "--out", out, "--as", side)
            assert outcome.code == 0 and "NOTICE" not in outcome.err
            assert p2pkit("translate", trained, half, "--out", f"{out} expected", "--as", "image").code == 0
            assert contents(out) == contents(Path(f"{out} expected"))
    with pytest.raises(DataError, match="that is of files"):
        library.load_model(model, "cpu")(picture(24, 48, 0), stored_as="side_by_side")


def test_files_of_twice_the_width_are_named_for_a_model_of_whole_files(
    pairs: Path, tmp_path: Path, p2pkit: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "drawn.toml"
    drawn = '"procedural_facades"\nsize = 32\npairs = 2\nval_pairs = 0'
    recipe.write_text(SMALL.replace('"side_by_side"\nroot = "{root}"', drawn))
    run = train(p2pkit, recipe, tmp_path / "run", "data.test_pairs=1")
    save(pairs / "test" / "single.png", picture(24, 24, 3))
    outcome = p2pkit("translate", run, pairs / "test", "--out", tmp_path / "out")
    said = "2 of the 3 files are twice as wide as training sources were"
    assert outcome.code == 0 and said in outcome.err and "--as left or --as right takes a half" in outcome.err
    assert Image.open(tmp_path / "out" / "0.png").size == (48, 24)
    assert "NOTICE" not in p2pkit("translate", run, pairs / "test", "--out", tmp_path / "o2", "--as", "image").err
    translate = library.load_model(run, "cpu")
    capsys.readouterr()
    for file in sorted((pairs / "test").iterdir()):
        whole = np.asarray(translate(file))
        assert np.array_equal(whole, np.asarray(Image.open(tmp_path / "out" / file.name)))
    assert capsys.readouterr().err.count("twice as wide") == 1
    right = np.asarray(Image.open(pairs / "test" / "0.png"))[:, 24:]
    assert np.array_equal(np.asarray(translate(pairs / "test" / "0.png", stored_as="right")), translate(right))


def test_the_samples_of_a_set_become_what_their_files_become(
    run: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    assert p2pkit("translate", run, pairs, "--out", tmp_path / "files").code == 0
    expected = contents(tmp_path / "files")
    own = p2pkit("translate", run, "--split", "test", "--out", tmp_path / "own")
    assert own.code == 0, own.err
    assert contents(tmp_path / "own") == {name: data for name, data in expected.items() if name.startswith("test")}
    other = tmp_path / "other.toml"
    other.write_text(f'[data]\nname = "side_by_side"\nroot = "{pairs}"\n[transform]\nload_size = 99\n')
    given = ("--data", other, "--split", "train", "--out", tmp_path / "train")
    assert p2pkit("translate", run, *given).code == 0
    assert contents(tmp_path / "train") == {name: data for name, data in expected.items() if name.startswith("train")}
    again = p2pkit("translate", run, *given, "--skip-existing")
    assert again.code == 0 and "(6 were there already)" in again.err
    report = translate_data(library.load_model(run), tmp_path / "python", options=FileOptions(size="model"))
    assert report.done == 2 and Image.open(tmp_path / "python" / "test" / "0.png").size == (16, 16)


KEYS = """
import numpy as np

import p2pkit


class Odd:
    keys = ["/absolute/a.png", "../../b.v2", "c/d.tif", "c/d.png", "..", "e/./f"]

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return 6

    def __getitem__(self, index):
        source = np.full((16, 16, 3), 40 * index, np.uint8)
        if index == 5 and self.split == "test":
            raise ValueError("it is worn out")
        return {"source": source, "target": source, "key": self.keys[index]}


@p2pkit.hookimpl
def register_datasets(register):
    register("odd", Odd)
"""


def test_keys_lead_nowhere_else(run: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_keys.py").write_text(KEYS)
    plugins = distribution(tmp_path / "plugins", "p2pkit-odd-keys", "0.1", {"odd-keys": "odd_keys"})
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tmp_path / "odd.toml"
    recipe.write_text('[data]\nname = "odd"\n')
    out = tmp_path / "deep" / "o"
    outcome = p2pkit("--plugins-dir", plugins, "translate", run, "--data", recipe, "--out", out)
    assert outcome.code == 2 and "images could not be translated; " in outcome.err
    for said in ("c/d.png: its output c/d is that of c/d.tif", "'..' of a sample: no file", "it is worn out"):
        assert said in outcome.err
    assert sorted(contents(tmp_path / "deep")) == ["o/absolute/a.png", "o/b.v2.png", "o/c/d.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give INPUT, or --data RECIPE, or --split"),
        (("{pairs}", "--split", "test"), "give either INPUT or --data"),
        (("--data", "{pairs}"), "a folder; give a recipe"),
        (("--split", "val"), "the data has no val set"),
        (("--split", "test", "--as", "image"), "a data set says itself"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[str, ...], message: str, run: Path, pairs: Path, tmp_path: Path, p2pkit: Call
) -> None:
    outcome = p2pkit("translate", run, *(each.format(pairs=pairs) for each in arguments), "--out", tmp_path / "o")
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_a_model_file_without_a_recipe_asks_for_data(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("translate", model, "--split", "test", "--out", tmp_path / "o")
    assert outcome.code == 2 and "holds no recipe" in outcome.err


def test_a_data_set_with_nothing_but_a_test_set(run: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    command = ("translate", run, "--split", "test", "--out")
    assert p2pkit(*command, tmp_path / "expected").code == 0
    shutil.rmtree(pairs / "train")
    outcome = p2pkit(*command, tmp_path / "o")
    assert outcome.code == 0 and contents(tmp_path / "o") == contents(tmp_path / "expected")
    assert f"NOTICE: the train set is left out: {pairs}: it has a folder test, but no folder train" in outcome.err
    left, right = halves(pairs, tmp_path / "sides")
    measured = p2pkit("evaluate", run, "--split", "test", "--metrics", "mae", "--json")
    assert measured.code == 0 and "the train set is left out" in measured.err, measured.err
    folders = p2pkit("evaluate", run, "--data", left, "--data", right, "--metrics", "mae", "--json")
    assert measured.json["rows"]["model"]["mae"] == pytest.approx(folders.json["rows"]["model"]["mae"], abs=1e-7)
    # sides in the folder of the test set: that one is named
    for side in (left, right):
        shutil.copytree(side, tmp_path / "sets" / "test" / {"left": "source", "right": "target"}[side.name])
    data = tmp_path / "data.toml"
    data.write_text(f'[run]\nname = "x"\n[data]\nname = "paired_folders"\nroot = "{tmp_path}/sets"\n')
    outcome = p2pkit("translate", run, "--data", data, "--split", "test", "--out", tmp_path / "p")
    assert outcome.code == 0 and "it has a folder test, but no folder train" in outcome.err, outcome.err
    assert contents(tmp_path / "p").keys() == {"test/source/0.png", "test/source/1.png"}
    found = [(tmp_path / "p/test/source" / file.name).read_bytes() for file in sorted(left.iterdir())]
    assert found == [contents(tmp_path / "expected")[f"test/{file.name}"] for file in sorted(left.iterdir())]
    for command in ("run", "translate"):
        wanted = ("translate", run, "--data", data, "--split", "train", "--out", tmp_path / "q")
        outcome = p2pkit(*wanted) if command == "translate" else p2pkit("run", data)
        assert outcome.code == 2 and "Traceback" not in outcome.err
