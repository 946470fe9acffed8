"""Which files of a folder are trained on and translated: the others are counted, and doubtful splits refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import p2pkit as library
from p2pkit.data.samples import Samples
from tests.conftest import Call, picture, save, train


def beside(file: Path, seed: int) -> Path:
    """A pair side by side, which no other seed gives."""
    left = picture(24, 24, seed)
    return save(file, np.concatenate([left, 255 - left], axis=1))


def clutter(folder: Path) -> None:
    """What editors, systems and people leave beside images."""
    for index in range(3):
        beside(folder / ".ipynb_checkpoints" / f"{index}-checkpoint.png", 50 + index)
        beside(folder / "@eaDir" / f"{index}.png" / "thumb.png", 60 + index)
    for name in ("__MACOSX", "Thumbs", ".thumbnails", "thumb", "_Thumbnail", "#recycle", "$RECYCLE.BIN"):
        beside(folder / name / "0.png", 70)
    for name in ("lost+found", "System Volume Information", "previews"):
        beside(folder / name / "0.png", 72)
    for name in ("._0.png", ".hidden.png", "~$0.png"):
        beside(folder / name, 71)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "~$a.docx", "notes.txt", "more.txt", "pairs.xlsx", "LICENSE"):
        (folder / name).write_bytes(b"\0\1")
    (folder / "lost.png").symlink_to(folder / "nowhere.png")


LEFT_OUT = (
    "left out: 4 images in hidden folders (.ipynb_checkpoints, .thumbnails), 12 images in folders of thumbnails or of "
    "the system (@eaDir, #recycle, $RECYCLE.BIN, System Volume Information, ...), 3 images hidden (._0.png, "
    ".hidden.png, ~$0.png), 4 files of other kinds (.txt, .xlsx, without an ending), 1 image whose links lead nowhere "
    "(lost.png)"
)


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "model.safetensors")


def test_clutter_is_not_trained_on_and_counted(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    clean = weights(train(p2pkit, recipe, tmp_path / "clean"))
    clutter(pairs / "train")
    outcome = p2pkit("run", recipe, "--out", tmp_path / "cluttered")
    assert outcome.code == 0, outcome.err
    assert f"NOTICE: {pairs}/train: 6 images taken; {LEFT_OUT}\n" in outcome.err
    found = weights(tmp_path / "cluttered")
    assert all(np.array_equal(clean[name], found[name]) for name in clean)
    assert "all 8 pairs can be used" in p2pkit("data", "check", recipe).out


def test_clutter_is_not_translated(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    for index in range(2):
        beside(tmp_path / "images" / f"{index}.png", index)
    clutter(tmp_path / "images")
    outcome = p2pkit("translate", model, tmp_path / "images", "--out", tmp_path / "out")
    assert outcome.code == 0 and f"{tmp_path}/images: 2 images taken; {LEFT_OUT}\n" in outcome.err
    assert sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.png")) == [
        "0.png", "1.png",
    ]  # fmt: skip


def test_a_file_without_bytes_is_bad_data_and_not_left_out(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    (pairs / "train" / "2.png").write_bytes(b"")
    outcome = p2pkit("check", recipe)
    assert outcome.code == 2 and "train/2.png" in outcome.err and "left out" not in outcome.err


def test_only_clutter_is_said_with_the_error(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    for file in (pairs / "train").iterdir():
        file.rename(file.with_suffix(".psd"))
    outcome = p2pkit("check", recipe)
    assert outcome.code == 2 and "holds no images" in outcome.err and "6 files of other kinds (.psd)" in outcome.err


def test_a_hidden_root_is_meant(pairs: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    pairs.rename(tmp_path / ".pairs")
    checked = p2pkit("check", recipe, "--set", f"data.root={tmp_path / '.pairs'}")
    assert checked.code == 0 and "6 training pairs, 0 val pairs, 2 test pairs" in checked.out
    assert "left out" not in checked.out + checked.err


def test_linked_folders_are_followed_once_and_circles_end(pairs: Path, recipe: Path, tmp_path: Path) -> None:
    for index in range(3):
        beside(tmp_path / "elsewhere" / "deep" / f"{index}.png", 20 + index)
    (pairs / "train" / "more").symlink_to(tmp_path / "elsewhere")
    (pairs / "train" / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(pairs)
    data = library.load_data(recipe)
    assert keys(data.train) == [
        *(f"train/{index}.png" for index in range(6)), *(f"train/again/{index}.png" for index in range(3)),
    ]  # fmt: skip
    expected = {picture(24, 24, seed).tobytes() for seed in (*range(6), 20, 21, 22)}
    assert {data.train[index].source.tobytes() for index in range(9)} == expected
    (notice,) = [notice for notice in data.notices if "left out" in notice]
    assert "links to 3 folders searched already (" in notice


def keys(samples: Samples) -> list[str]:
    return [samples[index].key for index in range(len(samples))]


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("Train", "Val", "TEST"), (3, 2, 1)),
        (("training", "validation", "testing"), (3, 2, 1)),
        (("train", "valid", "test"), (3, 2, 1)),
        (("Training", "dev", None), (3, 2, 0)),
    ],
)
@pytest.mark.parametrize("layout", ["{split}", "{split}/{side}", "{side}/{split}", "{split}{side}", "{split}_{side}"])
def test_splits_by_other_names(
    layout: str, names: tuple[str | None, ...], counts: tuple[int, ...], tmp_path: Path, recipe: Path, p2pkit: Call
) -> None:
    root = tmp_path / "named"
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        for index in range(count):
            if layout == "{split}":
                beside(root / str(name) / f"{index}.png", 10 * place + index)
            else:
                for turned, side in enumerate(("source", "target")):
                    pixels = picture(24, 24, 10 * place + index)
                    save(
                        root / layout.format(split=name, side=side) / f"{index}.png", 255 - pixels if turned else pixels
                    )
    name = "side_by_side" if layout == "{split}" else "paired_folders"
    data = library.load_data(recipe, {"data": {"name": name, "root": str(root)}})
    assert [len(samples) for samples in (data.train, data.val, data.test)] == list(counts)
    assert not any("left out" in notice for notice in data.notices)
    for place, samples in enumerate((data.train, data.val, data.test)):
        for index in range(len(samples)):
            pixels = picture(24, 24, 10 * place + index)
            assert np.array_equal(samples[index].source, pixels) and np.array_equal(samples[index].target, 255 - pixels)


def too_high(root: Path) -> str:
    (root / "train").parent.rename(root.with_name("inner"))
    root.mkdir()
    root.with_name("inner").rename(root / "maps")
    return f'data.root = "{root}/maps"'


def two_deep(root: Path) -> str:
    too_high(root)
    (root / "maps").rename(root / "deeper")
    (root / "maps").mkdir()
    (root / "deeper").rename(root / "maps" / "deeper")
    return f'data.root = "{root}/maps/deeper"'


def two_called_like_one(root: Path) -> str:
    for name in ("val", "validation"):
        beside(root / name / "0.png", 3)
    return f"{root}: the folders val and validation are both called like its val set"


def no_train_folder(root: Path) -> str:
    (root / "train").rename(root / "images")
    (root / "test").rename(root / "Testing")
    return f"{root}: it has a folder Testing, but no folder train"


def two_folders_of_sides(root: Path) -> str:
    (root / "train").rename(root / "trainA")
    (root / "test").rename(root / "testA")
    return 'data.name = "paired_folders" or "unpaired_folders"'


@pytest.mark.parametrize(
    "doubt", [too_high, two_deep, two_called_like_one, no_train_folder, two_folders_of_sides],
    ids=lambda doubt: doubt.__name__,
)  # fmt: skip
def test_doubtful_splits_are_refused(doubt: Callable[[Path], str], pairs: Path, recipe: Path, p2pkit: Call) -> None:
    expected = doubt(pairs)
    outcome = p2pkit("check", recipe)
    assert outcome.code == 2 and expected in outcome.err and len(outcome.said) == 1, outcome.err


def test_the_remedy_for_a_root_a_level_too_high_is_right(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    before = {sample.source.tobytes() for sample in map(library.load_data(recipe).train.read, range(6))}
    root = too_high(pairs).partition('"')[2].rstrip('"')
    data = library.load_data(recipe, {"data.root": root})
    assert {sample.source.tobytes() for sample in map(data.train.read, range(len(data.train)))} == before


@pytest.mark.parametrize("name", ["paired_folders", "unpaired_folders"])
@pytest.mark.parametrize(
    ("layout", "right"),
    [("x/train/{side}", "x"), ("x/{side}/Train", "x"), ("x/train{side}", "x"), ("x/{side}", "x"),
     ("{side}/deep/validation", "{root}")],
)  # fmt: skip
def test_doubtful_sides_are_refused(
    layout: str, right: str, name: str, tmp_path: Path, recipe: Path, p2pkit: Call
) -> None:
    for side in ("source", "target"):
        save(tmp_path / "sides" / layout.format(side=side) / "0.png", picture(24, 24, 0))
    outcome = p2pkit("check", recipe, "--set", f'data={{name = "{name}", root = "{tmp_path}/sides"}}')
    assert outcome.code == 2 and len(outcome.said) == 1
    expected = (
        f'data.root = "{tmp_path}/sides/{right}"' if right == "x" else "move it up into that of its side, or rename"
    )
    assert expected in outcome.err


def test_other_names_of_sides_are_shown(tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    for side in ("edges", "photos"):
        save(tmp_path / "sides" / side / "0.png", picture(24, 24, 0))
    outcome = p2pkit("check", recipe, "--set", f'data={{name = "paired_folders", root = "{tmp_path}/sides"}}')
    assert outcome.code == 2 and "the folders there are called edges, photos. Set data.source and" in outcome.err


@pytest.mark.parametrize("name", ["paired_folders", "unpaired_folders"])
@pytest.mark.parametrize("layout", ["{split}{side}", "{split}/{side}", "{side}/{split}"])
def test_the_layout_of_cyclegan(name: str, layout: str, tmp_path: Path, recipe: Path) -> None:
    root, chosen = tmp_path / "horses", {"name": name, "root": str(tmp_path / "horses")}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for side, seed in (("A", 0), ("B", 40)):
            for index in range(count):
                file = root / layout.format(split=split, side=side) / f"{index}.png"
                save(file, picture(24, 24, seed + index + (split != "train") * 10))
    forth = library.load_data(recipe, {"data": chosen})
    assert [len(samples) for samples in (forth.train, forth.val, forth.test)] == [3, 2, 1]
    assert any('A is translated to B; the other way round it is data.source = "B"' in each for each in forth.notices)
    back = library.load_data(recipe, {"data": {**chosen, "source": "B", "target": "A"}})
    assert not any("A is translated" in each for each in back.notices)
    for data, source, target in ((forth, 0, 40), (back, 40, 0)):
        assert np.array_equal(data.train[1].source, picture(24, 24, source + 1))
        targets = data.train.targets or data.train
        assert np.array_equal(targets[1].target, picture(24, 24, target + 1))


def test_what_lies_beside_the_folders_of_splits_is_said(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    beside(pairs / "0.png", 8)
    beside(pairs / "extra" / "0.png", 8)
    (pairs / ".git").mkdir()
    checked = p2pkit("check", recipe)
    assert checked.code == 0 and "6 training pairs" in checked.out
    assert "left out beside them: 1 image, the folder extra" in " ".join(checked.out.split())


def test_facades_that_only_a_system_has_touched_are_downloaded(tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    (tmp_path / "facades").mkdir()
    (tmp_path / "facades" / ".DS_Store").write_text("")
    data = f'data={{name = "facades", root = "{tmp_path}/facades", url = "http://localhost:1/none.tar.gz"}}'
    outcome = p2pkit("data", "check", recipe, "--set", data)
    assert outcome.code == 2 and "localhost" in outcome.err


def test_both_sides_of_unpaired_data_in_one_folder_are_refused(tmp_path: Path, recipe: Path, p2pkit: Call) -> None:
    save(tmp_path / "one" / "a" / "0.png", picture(24, 24, 0))
    data = f'data={{name = "unpaired_folders", root = "{tmp_path}/one", source = "a", target = "a"}}'
    assert "sources and targets are one folder" in p2pkit("check", recipe, "--set", data).err


def test_keys_and_fingerprints_stay_what_they_were(tmp_path: Path) -> None:
    """Of a layout that has always worked: a run on it resumes."""
    from p2pkit.components.catalogue import create

    root = tmp_path / "known"
    for side in ("source", "target"):
        for name in ("b", "a", "sub/c"):
            file = root / "train" / side / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((2, 2), np.uint8)).save(file)
            file.write_bytes(b"x" * 10)
    found = create("datasets", "paired_folders", root=root, split="train")
    assert [found.key(index) for index in range(3)] == [f"train/source/{name}.png" for name in ("a", "b", "sub/c")]
    assert found.fingerprint() == "06aee7b61757211a"
    shutil.rmtree(root)


def test_a_run_folder_among_the_images_is_left_out(recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (pairs / "train").iterdir():
        file.rename(flat / file.name)
    settings = ("--set", f"data.root={flat}", "--set", "train.max_steps=2")
    assert p2pkit("run", recipe, *settings, "--out", flat / "run").code == 0
    assert list((flat / "run" / "samples").glob("*.png"))
    checked = p2pkit("check", recipe, *settings)
    assert (
        checked.code == 0
        and "6 training pairs" in checked.out
        and "in run folders (run)" in " ".join(checked.out.split())
    )
    assert p2pkit("run", "--resume", flat / "run").code == 0
