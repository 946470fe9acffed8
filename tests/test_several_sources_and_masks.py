"""Data sets of folders and lists that give several sources, masks, and targets larger than their sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p2pkit.components.catalogue import create
from p2pkit.contracts import NO_IMAGE, Sample, SampleHeader
from p2pkit.data.discovery import fingerprint_of
from p2pkit.data.shared_files import refuse_shared_sources
from p2pkit.errors import DataError, RecipeError
from tests.conftest import Call, picture, save

SIZE = 24, 20
SEVERAL = {"source": ["depth", "normal"], "target": "photos", "mask": "weights"}


def depth(seed: int, *size: int) -> Any:
    return np.random.default_rng(seed).integers(0, 2**16, size or SIZE, dtype=np.uint16)


def weights(seed: int, *size: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, size or SIZE, dtype=np.uint8)


def images(seed: int) -> dict[str, Any]:
    """The images of a sample, by their folders."""
    return {
        "depth": depth(seed), "normal": picture(*SIZE, seed), "photos": picture(*SIZE, 100 + seed),
        "weights": weights(seed),
    }  # fmt: skip


def write(root: Path, layout: str, samples: Mapping[str, Mapping[str, int]]) -> Path:
    """The images of samples, numbers by their names, each set in folders of that ``layout``."""
    for split, named in samples.items():
        for name, seed in named.items():
            for side, pixels in images(seed).items():
                save(root / layout.format(split=split, side=side) / f"{name}.png", pixels)
    return root


def made(root: Path, split: str = "train", **parameters: Any) -> Any:
    return create("datasets", "paired_folders", split=split, root=root, **parameters)


def assert_is(sample: Sample, seed: int, names: tuple[str, ...] = ("depth", "normal")) -> None:
    expected = images(seed)
    assert list(sample.source) == list(names)
    for name in names:
        assert np.array_equal(sample.source[name].squeeze(), expected[name])
        assert sample.source[name].dtype == expected[name].dtype
    assert np.array_equal(sample.target, expected["photos"])
    assert np.array_equal(sample.mask.squeeze(), expected["weights"])


@pytest.mark.parametrize("layout", ["{split}/{side}", "{side}/{split}", "{split}{side}", "{side}"])
def test_folders_of_several_sources_and_masks(layout: str, tmp_path: Path) -> None:
    samples = {"train": {"a": 1, "sub/b": 2}, **({"val": {"c": 3}} if "split" in layout else {})}
    root = write(tmp_path, layout, samples)
    for split, named in (("train", {"a": 1, "sub/b": 2}), ("val", samples.get("val", {})), ("test", {})):
        dataset = made(root, split, **SEVERAL)
        assert len(dataset) == len(named) and not dataset.problems and not dataset.notices
        for index, (name, seed) in enumerate(named.items()):
            sample = dataset[index]
            assert_is(sample, seed)
            assert sample.key == dataset.key(index) == f"{layout.format(split=split, side='depth')}/{name}.png"
            assert dataset.header(index) == sample.header == SampleHeader.of_sources(
                {"depth": (*SIZE, 1), "normal": (*SIZE, 3)}, (*SIZE, 3), sample.key, (*SIZE, 1)
            )  # fmt: skip
        files = [root / layout.format(split=split, side="{}") / f"{name}.png" for name in named]
        sides = [[Path(str(file).format(side)) for file in files] for side in images(0)]
        assert dataset.source_files == [file for both in zip(*sides[:2], strict=True) for file in both]
        assert dataset.target_files == sides[2] and dataset.mask_files == sides[3]


def test_sources_are_in_the_order_of_the_recipe_and_called_like_their_folders(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    (tmp_path / "inputs").mkdir()
    (tmp_path / "depth").rename(tmp_path / "inputs" / "depth")
    dataset = made(tmp_path, **{**SEVERAL, "source": ["normal", "inputs/depth"]})
    assert_is(dataset[0], 1, ("normal", "depth"))
    assert dataset[0].key == "normal/a.png" and dataset.header(0).parts == (("normal", 3), ("depth", 1))
    one = made(tmp_path, **{**SEVERAL, "source": ["normal"]})
    assert list(one[0].source) == ["normal"] and one.header(0) == one[0].header


def test_a_mask_of_one_source(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    dataset = made(tmp_path, source="depth", target="photos", mask="weights")
    sample = dataset[0]
    assert np.array_equal(sample.source[:, :, 0], depth(1)) and np.array_equal(sample.mask[:, :, 0], weights(1))
    assert dataset.header(0) == sample.header == SampleHeader((*SIZE, 1), (*SIZE, 3), "depth/a.png", (*SIZE, 1))
    plain = made(tmp_path, source="depth", target="photos")
    assert plain[0].mask is None and plain.mask_files == [] and plain.header(0).mask == NO_IMAGE


def test_masks_beside_the_sides_of_cyclegan(tmp_path: Path) -> None:
    for side, seed in (("A", 1), ("B", 2), ("weights", 3)):
        save(tmp_path / f"train{side}" / "a.png", picture(*SIZE, seed, 1))
    dataset = made(tmp_path, mask="weights")
    found = [image[:, :, 0] for image in (dataset[0].source, dataset[0].target, dataset[0].mask)]
    assert all(np.array_equal(image, picture(*SIZE, seed, 1)[:, :, 0]) for seed, image in enumerate(found, 1))
    assert "so A is translated to B" in dataset.notices[0]


@pytest.mark.parametrize("together", [False, True])
def test_patterns_of_several_sources_and_of_masks(together: bool, tmp_path: Path) -> None:
    endings = {"depth": "_d", "normal": "_d" if together else "-n", "photos": "", "photos/": "_w"}
    for seed in (1, 2):
        for (side, ending), pixels in zip(endings.items(), images(seed).values(), strict=True):
            save(tmp_path / side / f"{seed}{ending}.png", pixels)
    save(tmp_path / "depth" / "readme.png", depth(9))
    patterns = "{stem}_d" if together else ["{stem}_d", "{stem}-n"]
    dataset = made(
        tmp_path, source=["depth", "normal"], target="photos", mask="photos", source_pattern=patterns,
        mask_pattern="{stem}_w",
    )  # fmt: skip
    assert len(dataset) == 2 and not dataset.problems
    for index in range(2):
        assert_is(dataset[index], 1 + index)
    assert dataset.notices == [
        f'{tmp_path}/depth: 2 of 3 images match data.source_pattern of depth = "{{stem}}_d"; 1 left out (readme.png)'
    ]


def test_a_source_may_be_the_mask_as_well(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    dataset = made(tmp_path, source=["normal", "weights"], target="photos", mask="weights")
    assert np.array_equal(dataset[0].source["weights"], dataset[0].mask) and not dataset.problems
    (tmp_path / "list.csv").write_text(
        "source.photo,source.hole,target,mask\nnormal/a.png,weights/a.png,photos/a.png,weights/a.png\n"
    )
    assert np.array_equal(made(tmp_path, list="list.csv")[0].source["hole"], weights(1)[:, :, None])


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"source": ["a/depth", "b/depth"]}, "expected folders of different names"),
        ({"source": ["depth", "."]}, "expected folders of different names"),
        ({"source": []}, "expected folders of different names"),
        ({"source": ["depth", "normal.v2"]}, "expected folders of different names without dots"),
        ({"source_pattern": ["{stem}"]}, "data.source_pattern: found 1 patterns for 2 sources; give one for each"),
        ({"source_pattern": ["{stem}", "x"]}, "data.source_pattern of normal: found 'x', expected a text with one"),
        ({"mask_pattern": "x"}, "data.mask_pattern: found 'x', expected a text with one {stem}"),
        ({"target": "normal"}, "a.png is both a source normal and a target; give data.source_pattern of normal and"),
        ({"mask": "photos"}, "a.png is both a target and a mask; give data.target_pattern and data.mask_pattern, such"),
        ({"list": "list.csv"}, "leave source, target and their patterns out"),
        ({"mask": "wieghts"}, "wieghts: there is no such folder"),
        ({"source": ["depth", "nromal"]}, "Set data.source, data.target and data.mask to the names of those meant"),
    ],
)
def test_what_is_refused(parameters: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    with pytest.raises((RecipeError, DataError)) as refused:
        made(tmp_path, **{**SEVERAL, **parameters})
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_a_list_is_not_given_beside_a_mask(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.list names the pairs"):
        made(tmp_path, list="list.csv", mask="weights")


def test_what_lacks_a_partner_is_counted_by_folder(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": dict.fromkeys("abcdefgh", 1)})
    for lost in ("depth/a", "normal/b", "normal/c", "normal/d", "normal/e", "weights/a", "weights/b", "photos/h"):
        (tmp_path / f"{lost}.png").unlink()
    dataset = made(tmp_path, **SEVERAL)
    assert [dataset.key(index) for index in range(len(dataset))] == ["depth/f.png", "depth/g.png"]
    depths = [f"{tmp_path}/depth/{name}.png" for name in "abcdefgh"]
    assert dataset.problems == [
        "every sample needs an image of the same name (endings may differ) in each of its folders; of 8 names 6 are "
        f"not in all of them:\n  {tmp_path}/depth has no partner of 1 ({tmp_path}/normal/a.png)\n"
        f"  {tmp_path}/normal has no partner of 4 ({', '.join(depths[1:4])}, ...)\n"
        f"  {tmp_path}/photos has no partner of 1 ({depths[7]})\n"
        f"  {tmp_path}/weights has no partner of 2 ({tmp_path}/normal/a.png, {depths[1]})"
    ]
    save(tmp_path / "weights" / "f.tif", weights(1))
    (problem, _) = made(tmp_path, **SEVERAL).problems
    assert f"{tmp_path}/weights/f.png and {tmp_path}/weights/f.tif" in problem


def test_patterns_are_guessed_for_several_sources(tmp_path: Path) -> None:
    for name in "abcd":
        for side, pixels in images(1).items():
            save(tmp_path / side / f"{name}{'_mask' if side == 'weights' else ''}.png", pixels)
    (problem,) = made(tmp_path, **SEVERAL).problems
    guess = 'would pair with data.source_pattern of depth = "{stem}" and data.mask_pattern = "{stem}_mask"'
    assert problem.endswith(f"\n  4 of them {guess}") and problem.count("would pair") == 1
    assert len(made(tmp_path, **SEVERAL, mask_pattern="{stem}_mask")) == 4


@pytest.mark.parametrize(
    ("side", "size", "called", "other"),
    [
        ("normal", (24, 19), "the sources of a sample", "depth"),
        ("weights", (48, 40), "the target and the mask of a sample", "photos"),
    ],
)
def test_sizes_that_are_refused(side: str, size: tuple[int, int], called: str, other: str, tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    save(tmp_path / side / "a.png", picture(*size, 5, 1))
    dataset = made(tmp_path, **SEVERAL)
    for read in (dataset.header, dataset.__getitem__):
        with pytest.raises(DataError) as refused:
            read(0)
        assert str(refused.value) == (
            f"{called} differ in size (height x width): {tmp_path}/{other}/a.png is 24x20 and "
            f"{tmp_path}/{side}/a.png is {size[0]}x{size[1]}"
        )


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("several", [False, True])
def test_targets_of_a_multiple_of_the_size(scale: int, several: bool, tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    height, width = scale * SIZE[0], scale * SIZE[1]
    save(tmp_path / "photos" / "a.png", picture(height, width, 7))
    save(tmp_path / "weights" / "a.png", weights(7, height, width))
    dataset = made(tmp_path, **(SEVERAL if several else {"source": "depth", "target": "photos"}))
    sample = dataset[0]
    assert np.array_equal(sample.target, picture(height, width, 7)) and dataset.header(0) == sample.header
    assert sample.header.source[:2] == SIZE and sample.header.target == (height, width, 3)
    assert not several or np.array_equal(sample.mask[:, :, 0], weights(7, height, width))


def test_fingerprints(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1, "b": 2}})
    plain = {"source": "depth", "target": "photos"}
    files = [tmp_path / side / f"{name}.png" for name in "ab" for side in ("depth", "photos")]
    assert made(tmp_path, **plain).fingerprint() == fingerprint_of(tmp_path, files)
    (tmp_path / "list.csv").write_text(
        "source.d,source.n,target,mask\n" + "".join(
            f"depth/{name}.png,normal/{name}.png,photos/{name}.png,weights/{name}.png\n" for name in "ab"
        )
    )  # fmt: skip
    different = [
        plain, {**plain, "source": ["depth"]}, {**plain, "mask": "weights"}, SEVERAL, {**SEVERAL, "mask": None},
        {**SEVERAL, "source": ["normal", "depth"]}, {"list": "list.csv"},
    ]  # fmt: skip
    prints = [made(tmp_path, **parameters).fingerprint() for parameters in different]
    assert len(set(prints)) == len(different)
    (tmp_path / "weights" / "b.png").write_bytes(b"other")
    assert [made(tmp_path, **parameters).fingerprint() != before
            for parameters, before in zip(different, prints, strict=True)] == [
        False, False, True, True, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("side", ["depth", "normal", "photos", "weights"])
def test_a_file_of_two_sets(side: str, tmp_path: Path) -> None:
    write(tmp_path, "{split}/{side}", {"train": {"a": 1}, "test": {"b": 2}})
    (tmp_path / "test" / side / "b.png").unlink()
    (tmp_path / "test" / side / "b.png").symlink_to(tmp_path / "train" / side / "a.png")
    sets = {split: made(tmp_path, split, **SEVERAL) for split in ("train", "val", "test")}
    if side in ("depth", "normal"):
        with pytest.raises(DataError, match="1 sources of the test set are in the train set too"):
            refuse_shared_sources(sets, "these")
    else:
        notices = refuse_shared_sources(sets, "these")  # one mask for all is nothing to learn from
        assert ["1 targets of the test set" in notice for notice in notices] == [True] * (side == "photos")


LIST = """Source.Depth, SOURCE.normal ,target,mask,split,group
depth/a.png,normal/a.png,photos/a.png,weights/a.png,,1
depth/b.png,normal/b.png,photos/b.png,weights/b.png,val,2
depth/c.png,normal/a.png,photos/c.png,weights/a.png,,3
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder of three samples, and a list of them."""
    write(tmp_path, "{side}", {"train": {"a": 1, "b": 2, "c": 3}})
    (tmp_path / "list.csv").write_text(LIST)
    return tmp_path


def test_a_list_of_several_sources_and_masks(listed: Path) -> None:
    train, val = (made(listed, split, list="list.csv") for split in ("train", "val"))
    assert [len(train), len(val)] == [2, 1] and not train.notices
    assert_is(val[0]._replace(source={name.lower(): image for name, image in val[0].source.items()}), 2)
    assert list(train[0].source) == ["Depth", "normal"] and val.key(0) == "depth/b.png"
    assert np.array_equal(train[1].source["normal"], picture(*SIZE, 1)) and train.group(1) == "3"
    assert train.mask_files == [listed / "weights/a.png"] * 2
    assert train.header(1) == train[1].header


def test_a_list_of_masks(listed: Path) -> None:
    text = "source,mask,target\ndepth/a.png,weights/a.png,photos/a.png\n"
    (listed / "list.csv").write_text(text)
    sample = made(listed, list="list.csv")[0]
    assert np.array_equal(sample.source[:, :, 0], depth(1)) and np.array_equal(sample.mask[:, :, 0], weights(1))
    (listed / "list.csv").write_text(text.replace("weights/a.png,photos", "photos/a.png,photos"))
    with pytest.raises(DataError, match="is both target and mask"):
        made(listed, list="list.csv")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Source.Depth", "source", "of the columns source, source.normal each needs a name of its own"),
        ("Source.Depth", "source.", "of the columns source., source.normal each needs a name of its own"),
        ("Source.Depth", "source.a.b", "of the columns source.a.b, source.normal each needs a name of its own without"),
        ("Source.Depth", "source.normal", "two columns are called source.normal"),
        ("target", "trget", "unknown column 'trget'; did you mean 'target'?; there is no column target"),
        ("normal/b.png", "", "line 3: it has no source.normal"),
        ("weights/b.png", "", "line 3: it has no mask; where there is a column mask each line needs one"),
        ("normal/b.png", "normal/x.png", "line 3: source.normal {root}/normal/x.png: there is no such file"),
        ("normal/b.png", "photos/b.png", "line 3: {root}/photos/b.png is both source.normal and target"),
        ("normal/b.png", "depth/b.png", "line 3: {root}/depth/b.png is both source.Depth and source.normal"),
        ("depth/c.png", "depth/a.png", "line 4: the source {root}/depth/a.png is in line 2 already"),
    ],
)
def test_lists_that_are_refused(old: str, new: str, reason: str, listed: Path) -> None:
    assert old in LIST
    (listed / "list.csv").write_text(LIST.replace(old, new, 1))
    with pytest.raises(DataError) as refused:
        made(listed, list="list.csv")
    assert reason.format(root=listed) in str(refused.value)


def test_the_files_of_masks_are_given_as_stored(tmp_path: Path) -> None:
    write(tmp_path, "{side}", {"train": {"a": 1}})
    gray = np.repeat(weights(4)[:, :, None], 3, axis=2)
    save(tmp_path / "weights" / "a.png", gray)
    assert np.array_equal(made(tmp_path, **SEVERAL)[0].mask, gray)
    Image.fromarray(weights(4) > 127).save(tmp_path / "weights" / "a.png")
    found = made(tmp_path, **SEVERAL)[0].mask
    assert np.array_equal(found[:, :, 0], (weights(4) > 127) * np.uint8(255)) and found.bits == 1


@pytest.mark.parametrize("name", ["side_by_side", "facades", "unpaired_folders", "procedural_facades"])
@pytest.mark.parametrize("key", ['mask="weights"', 'list="list.csv"'])
def test_other_data_sets_have_neither_masks_nor_lists(
    name: str, key: str, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    root = "" if name == "procedural_facades" else f', root = "{tmp_path}"'
    outcome = p2pkit("check", recipe, "--set", f'data={{name = "{name}"{root}, {key}}}')
    assert outcome.code == 2 and f"data.{key.partition('=')[0]}: unknown key" in outcome.err, outcome.err
    assert len(outcome.said) == 1


def test_the_components_show_the_keys(p2pkit: Call) -> None:
    (found,) = p2pkit("components", "paired_folders", "--json").json
    shown = {each["name"]: each["type"] for each in found["parameters"]}
    assert shown["source"] == shown["source_pattern"] == "text or list of texts"
    assert {"mask", "mask_pattern"} <= shown.keys()
