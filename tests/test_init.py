"""A recipe from a look at a folder: what is found, what is decided and stated, what is refused; and that it trains."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.new_recipe import recipe_for
from p2pkit.new_recipe.decide import Machine
from p2pkit.new_recipe.names import orders, patterns_in
from tests.conftest import Call, Outcome, picture, save
from tests.volumes import write_nifti

TINY = ("generator.width=4", "discriminator.width=4", "train.max_steps=2", "validation.max_images=2")
Drawn = Callable[[int], Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def smooth(index: int) -> Any:
    return picture(40, 40, index)


def inverted(index: int) -> Any:
    return 255 - picture(40, 40, index)


def classes(index: int, numbers: Iterable[int] = range(5)) -> Any:
    chosen = np.random.default_rng(index).choice(list(numbers), (5, 5))
    return np.kron(chosen, np.ones((8, 8))).astype(np.uint8)


def draw(pattern: str, count: int, drawn: Drawn, first: int = 0) -> None:
    """Write ``count`` images below ``data`` here."""
    for index in range(first, first + count):
        save(Path("data") / pattern.format(index), drawn(index))


def made(p2pkit: Call, unedited: bool = False) -> tuple[dict[str, Any], Outcome]:
    """The tables of the recipe that init writes for ``data``, and what it prints.

    The recipe has to pass check, ``unedited`` or, which is quicker, with smaller networks.
    """
    outcome = p2pkit("init", "data")
    assert outcome.code == 0, outcome.err
    checked = p2pkit("check", "data.toml", *([] if unedited else settings()))
    assert checked.code == 0, checked.err
    return tomllib.loads(Path("data.toml").read_text()), outcome


def one_line(text: str) -> str:
    return " ".join(text.split())


def settings() -> list[str]:
    return [word for setting in TINY for word in ("--set", setting)]


def test_two_folders_of_each_split(p2pkit: Call) -> None:
    for split, count, first in (("train", 4, 0), ("val", 2, 50), ("test", 1, 90)):
        draw(f"{split}/edges/{{}}.png", count, smooth, first)
        draw(f"{split}/photos/{{}}.jpg", count, inverted, first)
    recipe, outcome = made(p2pkit, unedited=True)
    assert recipe["data"] == {
        "name": "paired_folders", "root": str(Path("data").resolve()), "source": "edges", "target": "photos",
    }  # fmt: skip
    assert "4 train and 2 val and 1 test pairs" in outcome.out and "NOTICE" not in outcome.out
    assert 'source = "photos", target = "edges"' in one_line(outcome.out)
    with Image.open("data.pairs.png") as grid:
        shown = np.asarray(grid)
    # 40 pixels are enlarged to 160; the first row begins below a title and the names of columns
    first = shown[44:204, 8:168], shown[44:204, 176:336]
    assert (first[0][::4, ::4] == smooth(0)).all() and np.abs(first[1][::4, ::4] - inverted(0).astype(int)).mean() < 9
    assert len(shown) == 44 + 4 * (160 + 26)
    outcome = p2pkit("run", "data.toml", *settings())
    assert outcome.code == 0 and "validation/psnr" in outcome.out, outcome.err


@pytest.mark.parametrize(
    ("sources", "targets", "expected"),
    [
        ("trainA/{}.png", "trainB/{}.png", {"source": "A", "target": "B"}),
        ("sketches/train/{}.png", "real/train/{}.png", {"source": "sketches", "target": "real"}),
        ("inner/input/{}.png", "inner/output/{}.png", {"source": "input", "target": "output"}),
        (
            "train/leftImg8bit/b/{}_leftImg8bit.png", "train/gtFine/b/{}_gtFine.png",
            {"source": "leftImg8bit", "target": "gtFine", "source_pattern": "{stem}_leftImg8bit",
             "target_pattern": "{stem}_gtFine"},
        ),
        (
            "x{}_target.png", "x{}_source.png",
            {"source": ".", "target": ".", "source_pattern": "{stem}_source", "target_pattern": "{stem}_target"},
        ),
        (
            "train/{}_A.png", "train/{}_B.png",
            {"source": ".", "target": ".", "source_pattern": "{stem}_A", "target_pattern": "{stem}_B"},
        ),
        (
            "photo{}.png", "edges{}.png",
            {"source": ".", "target": ".", "source_pattern": "edges{stem}", "target_pattern": "photo{stem}"},
        ),
        (
            "{}.png", "{}_depth.png",
            {"source": ".", "target": ".", "source_pattern": "{stem}_depth", "target_pattern": "{stem}"},
        ),
    ],
)  # fmt: skip
def test_where_pairs_are_found(sources: str, targets: str, expected: dict[str, str], p2pkit: Call) -> None:
    draw(sources, 3, smooth)
    draw(targets, 3, inverted)
    recipe, outcome = made(p2pkit)
    found = {key: value for key, value in recipe["data"].items() if key not in ("name", "root")}
    assert found == expected and recipe["data"]["name"] == "paired_folders"
    assert "3 train pairs" in outcome.out and "their names do not tell" not in one_line(outcome.out)
    source, target = (expected.get(f"{side}_pattern", expected[side]) for side in ("source", "target"))
    if expected["source"] != "leftImg8bit":
        assert f"{source} is translated to {target}: as they are called" in one_line(outcome.out)


def test_halves_and_the_line_that_turns_them_round(p2pkit: Call) -> None:
    draw("train/{}.png", 3, lambda index: np.concatenate([smooth(index), inverted(index)], axis=1))
    draw("test/{}.png", 2, lambda index: np.concatenate([smooth(index), inverted(index)], axis=1), 50)
    recipe, outcome = made(p2pkit)
    assert recipe["data"]["name"] == "side_by_side" and recipe["data"]["direction"] == "AtoB"
    stated = one_line(outcome.out)
    assert "NOTICE: the left half is translated to the right half: nothing tells which half is the source" in stated
    assert 'direction = "BtoA"' in stated and "metrics are taken on the test set" in stated
    text = Path("data.toml").read_text()
    Path("data.toml").write_text(text.replace('direction = "AtoB"', 'direction = "BtoA"'))
    assert (library.load_data("data.toml").first.source == inverted(0)).all()


def test_names_that_do_not_tell_are_taken_by_the_alphabet_and_stated(p2pkit: Call) -> None:
    draw("second/{}.png", 3, inverted)
    draw("first/{}.png", 3, smooth)
    recipe, outcome = made(p2pkit)
    assert (recipe["data"]["source"], recipe["data"]["target"]) == ("first", "second")
    turned = 'source = "second", target = "first"'
    stated = "NOTICE: first is translated to second: their names do not tell"
    assert stated in one_line(outcome.out) and turned in one_line(outcome.out)
    assert turned in Path("data.toml").read_text()


def test_other_folders_are_stated(p2pkit: Call) -> None:
    for name in ("labels", "depth", "photos", "mask"):
        draw(f"{name}/{{}}.png", 3, smooth)
    draw("thumbs_old/t{}.png", 2, smooth)
    recipe, outcome = made(p2pkit)
    assert (recipe["data"]["source"], recipe["data"]["target"]) == ("depth", "photos")
    stated = one_line(outcome.out)
    assert "the folder labels is not used" in stated and 'source = ["depth", "labels"]' in stated
    assert 'mask = "mask"' in stated and "the folder thumbs_old is not used" in stated
    assert 'mask = "mask"' in Path("data.toml").read_text()


def test_sixteen_bits_of_one_channel(p2pkit: Call) -> None:
    draw("depth/{}.png", 21, lambda index: picture(50, 70, index, 1).astype(np.uint16) * 100 + 7)
    draw("clean/{}.png", 21, lambda index: 60000 - picture(50, 70, index, 1).astype(np.uint16) * 100)
    recipe, outcome = made(p2pkit, unedited=True)
    assert "encoding" not in recipe and recipe["transform"] == {
        "load_size": 64, "keep_aspect": True, "crop_size": 64, "flip": False
    }  # fmt: skip
    assert "1 channel of uint16" in one_line(outcome.out) and recipe["data"]["split"] in (0.1, 0.2, 0.3)
    assert "values 7 to" in Path("data.toml").read_text()
    outcome = p2pkit("run", "data.toml", *settings(), "--out", "run")
    assert outcome.code == 0 and "validation/mae" in outcome.out, outcome.err
    header = library.load_model("run").header
    assert header.target_dtype == "uint16" and header.target_range[1] == 60000


def test_label_maps_are_encoded(p2pkit: Call) -> None:
    draw("labels/{}.png", 4, lambda index: classes(index, (0, 1, 2, 3, 4, 255)))
    draw("photos/{}.png", 4, smooth)
    recipe, outcome = made(p2pkit, unedited=True)
    assert recipe["encoding"] == {"name": "one_hot", "classes": 5, "void": 255}
    assert "sources are label maps: whole numbers from 0 to 4" in one_line(outcome.out)
    assert p2pkit("run", "data.toml", *settings()).code == 0
    with Image.open("data.pairs.png") as grid:
        shown = np.asarray(grid)[44:204, 8:168].reshape(-1, 3)  # a colour a class
    assert len(np.unique(shown, axis=0)) == len(np.unique(classes(0, (0, 1, 2, 3, 4, 255))))


def test_the_numbers_of_a_palette_are_classes(p2pkit: Call) -> None:
    draw("photos/{}.png", 3, smooth)
    for index in range(3):
        image = Image.fromarray(classes(index), "P")
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
        Path("data/seg").mkdir(exist_ok=True)
        image.save(f"data/seg/{index}.png")
    assert made(p2pkit)[0]["encoding"] == {"name": "one_hot", "classes": 5}


@pytest.mark.parametrize(
    ("drawn", "stated"),
    [
        (lambda index: 255 * (classes(index) > 2).astype(np.uint8), "two values, 0 and 255"),
        (lambda index: 50 * np.stack(3 * [classes(index)], 2), "sources have 5 colours: taken as pictures"),
        (lambda index: picture(40, 40, index, 1), "values"),
        (lambda index: picture(40, 40, index, 1) // 8, "values"),
    ],
)
def test_what_is_no_label_map_has_no_encoding(drawn: Drawn, stated: str, p2pkit: Call) -> None:
    draw("map/{}.png", 3, drawn)
    draw("photos/{}.png", 3, smooth)
    assert "encoding" not in made(p2pkit)[0] and stated in one_line(Path("data.toml").read_text().replace("# ", ""))


def test_targets_of_classes_are_doubted(p2pkit: Call) -> None:
    draw("input/{}.png", 3, smooth)
    draw("gt/{}.png", 3, classes)
    recipe, outcome = made(p2pkit)
    assert "encoding" not in recipe and "targets look like label maps of 5 classes" in one_line(outcome.out)


def test_sizes_that_differ(p2pkit: Call) -> None:
    draw("a/{}.png", 3, lambda index: picture(150 + 10 * index, 300, index))
    draw("b/{}.png", 3, lambda index: picture(150 + 10 * index, 300, index))
    recipe, outcome = made(p2pkit)
    assert recipe["transform"] == {"load_size": 128, "keep_aspect": True, "crop_size": 128, "flip": False}
    assert "3 sizes" in outcome.out and p2pkit("run", "data.toml", *settings()).code == 0


def test_pairs_of_unequal_size_are_stated(p2pkit: Call) -> None:
    draw("a/{}.png", 3, lambda index: picture(40, 60, index))
    draw("b/{}.png", 3, lambda index: picture(50, 50, index))
    recipe, outcome = made(p2pkit)
    assert "keep_aspect" not in recipe["transform"]
    assert "source and target differ in size: both are resized to one" in one_line(outcome.out)
    assert p2pkit("run", "data.toml", *settings()).code == 0


def test_larger_targets(p2pkit: Call) -> None:
    draw("low/{}.png", 3, lambda index: picture(32, 32, index))
    draw("high/{}.png", 3, lambda index: picture(128, 128, index))
    recipe, _ = made(p2pkit)
    assert recipe["transform"]["crop_size"] == 32 and recipe["discriminator"]["name"] == "patchgan_70"
    assert p2pkit("run", "data.toml", *settings()).code == 0


def test_alpha_and_channels_that_differ(p2pkit: Call) -> None:
    def with_alpha(index: int) -> Any:
        alpha = np.where(np.arange(40) < 9, 0, 255).astype(np.uint8)
        return np.dstack([smooth(index), np.tile(alpha, (40, 1))])

    draw("line/{}.png", 4, lambda index: smooth(index) if index % 2 else with_alpha(index))
    draw("colour/{}.png", 4, with_alpha)
    recipe, outcome = made(p2pkit)
    assert recipe["source"] == {"channels": "rgb", "alpha": "white"} and recipe["target"] == {"alpha": "white"}
    assert "files have 3 or 4 channels; all become rgb" in one_line(outcome.out)
    assert (library.load_data("data.toml").first.target[:, :9] == 255).all()


def test_what_cannot_be_used_is_left_out_and_stated(p2pkit: Call) -> None:
    draw("in/{}.png", 4, smooth)
    draw("out/{}.png", 5, inverted)
    broken = Path("data/in/2.png")
    broken.write_bytes(broken.read_bytes()[:70])
    recipe, outcome = made(p2pkit)
    assert recipe["loader"]["bad_data"] == "skip" and "1 pair cannot be read, and left out" in one_line(outcome.out)
    assert p2pkit("run", "data.toml", *settings()).code == 0


def test_few_pairs_have_no_val_set(p2pkit: Call) -> None:
    draw("in/{}.png", 19, smooth)
    draw("out/{}.png", 19, inverted)
    recipe, outcome = made(p2pkit)
    assert "split" not in recipe["data"] and "no metrics are taken: there are 19" in one_line(outcome.out)
    assert len(library.load_data("data.toml").train) == 19


def test_a_file_is_never_replaced(p2pkit: Call) -> None:
    draw("in/{}.png", 2, smooth)
    draw("out/{}.png", 2, inverted)
    Path("data.toml").write_text("mine")
    outcome = p2pkit("init", "data")
    assert outcome.code == 2 and "not replaced" in outcome.err and "--out" in outcome.err
    assert Path("data.toml").read_text() == "mine"
    assert p2pkit("init", "data", "--out", "new/other.toml").code == 0
    assert Path("new/other.toml").is_file() and Path("new/other.pairs.png").is_file()


def test_run_and_check_take_the_folder_itself(p2pkit: Call) -> None:
    draw("in/{}.png", 3, smooth)
    draw("out/{}.png", 3, inverted)
    checked = p2pkit("check", "data")
    assert checked.code == 0 and "in is translated to out" in one_line(checked.err), checked.err
    outcome = p2pkit("run", "data", *settings(), "--set", "transform.flip=true")
    assert outcome.code == 0 and Path("data.pairs.png").is_file(), outcome.err
    (run,) = Path("runs/data").iterdir()
    text = (run / "recipe.source.toml").read_text()
    assert text == recipe_for("data").text and "# in is translated to out" in text
    assert tomllib.loads((run / "recipe.toml").read_text())["transform"]["flip"] is True
    assert p2pkit("run", "--resume", run).code == 0
    for runs in (run, run.parent, run.parent.parent):
        for command in ("run", "init"):
            refused = p2pkit(command, runs)
            assert refused.code == 2 and f"p2pkit run --resume {run}" in refused.err
    overrides = dict(setting.split("=") for setting in TINY)
    result = library.train("data", {key: int(value) for key, value in overrides.items()}, device="cpu")
    assert result.step == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], ["there is no such folder"]),
        (["notes.txt"], ["the folder holds no images"]),
        (["1.png"], ["it holds one image (1.png)"]),
        (["x1.png", "x2.png", "x3.png"], ["its 3 images do not pair", '"unpaired_folders"', '"side_by_side"']),
        (
            ["cats/a.png", "cats/b.png", "dogs/c.png", "dogs/d.png"],
            ["4 images in the folders cats, dogs do not pair", '"unpaired_folders"'],
        ),
        (["1.png", "1.jpg", "2.png", "2.jpg"], ["alike but for their endings", "paired_folders"]),
        (["ct/1.nii", "mr/1.nii"], ['data.name = "volume_slices"']),
        (["test/in/1.png", "test/out/1.png"], ["no folder train"]),
    ],
)  # fmt: skip
def test_refusals(files: list[str], expected: list[str], p2pkit: Call) -> None:
    for number, name in enumerate(files):
        file = Path("data") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".nii"):
            write_nifti(file, np.zeros((8, 8, 4), np.int16))
        elif name.endswith(".txt"):
            file.write_text("no image")
        else:
            save(file, smooth(number))
    outcome = p2pkit("init", "data")
    assert outcome.code == 2 and [text for text in expected if text not in outcome.err] == [], outcome.err
    assert not Path("data.toml").exists()


def test_images_none_of_which_can_be_read_are_counted(p2pkit: Call) -> None:
    for index in range(3):
        for side in ("in", "out"):
            file = Path(f"data/{side}/{index}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = p2pkit("init", "data")
    assert outcome.code == 2 and "none of the 3 training pairs can be read" in outcome.err


def test_a_machine_with_a_gpu_gets_the_papers_settings(p2pkit: Call) -> None:
    draw("in/{}.png", 40, lambda index: picture(300, 300, index))
    draw("out/{}.png", 40, lambda index: picture(300, 300, index))
    recipe = tomllib.loads(recipe_for("data", Machine("a CUDA GPU", 8, 10**11)).text)
    assert recipe["transform"] == {"load_size": 286, "crop_size": 256, "flip": False}
    assert recipe["generator"] == {"name": "unet"} and recipe["train"]["epochs"] == 200
    assert recipe["loader"] == {"batch_size": 1, "workers": 0, "cache": "memory"}
    assert "optimizer" not in recipe and recipe["validation"]["every"] == "10 epochs"
    little = tomllib.loads(recipe_for("data", Machine("a CUDA GPU", 8, 10**7)).text)
    assert little["loader"] == {"batch_size": 1, "workers": 4, "cache": "none"}
    slow = tomllib.loads(recipe_for("data", Machine("", 2, 10**11)).text)
    assert slow["transform"] == {"load_size": 143, "crop_size": 128, "flip": False}
    assert slow["train"]["max_time"] == "4m30s" and slow["generator"]["width"] == 32


def test_folders_of_any_name(p2pkit: Call) -> None:
    draw("in/{}.png", 2, smooth)
    draw("out/{}.png", 2, inverted)
    for name in ('a "b" # c', "Zürich\n2", "x'y"):
        Path("data").rename(name)
        assert p2pkit("init", name, "--out", "odd.toml").code == 0
        recipe = tomllib.loads(Path("odd.toml").read_text())
        assert recipe["run"]["name"] == name and library.load_data("odd.toml").first.key == "in/0.png"
        Path("odd.toml").unlink()
        Path(name).rename("data")


def test_which_of_two_names_is_the_source() -> None:
    assert orders(["real_A", "photos", "labels"])[0] == ("real_A", "photos", True)
    for source, target in (
        ("labels", "images"), ("A", "B"), ("input", "target"), ("images", "gt"), ("hazy", "clear"), ("lr", "hr"),
        ("Sketch", "Colour"), ("src", "images"), ("depth", "rgb"), ("masks", "images"),
    ):  # fmt: skip
        assert orders([target, source])[0] == (source, target, True)
    assert orders(["zoo", "Art"])[0] == ("Art", "zoo", False)


def test_names_of_one_folder_pair_by_letters_alone() -> None:
    assert patterns_in([f"scene{n}_{side}" for n in range(9) for side in (0, 1)]) is None
    found = patterns_in(["1_B", "1_A", "2_A", "2_B", "3_A", "lonely"])
    assert found is not None and found == ("{stem}_A", "{stem}_B", True, 2)
    assert patterns_in(["1_in", "2_in", "3_in", "4_in", "5_out"]) is None
    with pytest.raises(DataError, match="there is no such folder"):
        recipe_for("nowhere")
