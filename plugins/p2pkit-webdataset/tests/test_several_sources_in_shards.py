"""Samples of several sources, with masks and with larger targets, written as shards and read back as they were."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webdataset_tars import png, write_tar

from p2pkit.components.catalogue import create
from p2pkit.contracts import Sample
from p2pkit.errors import DataError, RecipeError
from p2pkit.images.pixels import FULL_SCALE, as_indices, stored
from p2pkit.images.reading import read_image
from p2pkit_webdataset.dataset import WebDataset, WebDatasetOverHTTP
from p2pkit_webdataset.writing import make_shards
from tests.conftest import Call, save
from tests.web import Site

RANDOM = np.random.default_rng(0)
KEYS = {"source": ["labels", "depth"], "mask": "mask"}


def pixels(dtype: Any = np.uint8, channels: int = 3, scale: int = 1) -> Any:
    values = RANDOM.random((6 * scale, 8 * scale, channels))
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


class Samples(list[Sample]):
    """A data set of given samples."""


def sample(key: str = "a", **others: Any) -> Sample:
    sources = {"labels": pixels(), "depth": pixels(np.uint16, 1)}
    return Sample(**{"source": sources, "target": pixels(), "key": key, "mask": pixels(np.uint8, 1), **others})


def shards_of(tmp_path: Path, *samples: Sample) -> Path:
    make_shards({"test": Samples(samples)}, "f", tmp_path / "shards", 4)
    return tmp_path / "shards"


def alike(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def members(shards: Path, split: str = "test") -> list[str]:
    with tarfile.open(shards / split / "shard-000000.tar") as tar:
        return tar.getnames()


def test_several_sources_masks_and_larger_targets_come_back(tmp_path: Path) -> None:
    given = [
        sample(f"{scale}.{place}", source={"labels": labels, "depth": depth}, target=pixels(scale=scale), mask=mask)
        for scale in (1, 2)
        for place, (labels, depth, mask) in enumerate((
            (pixels(), pixels(np.uint16, 1), pixels(np.uint8, 1, scale)),
            (pixels(np.float32, 2), pixels(np.int32, 1), pixels(np.uint16, 1, scale)),
            (pixels(np.uint8, 5), pixels(np.uint16, 3), pixels(np.float32, 1, scale)),
        ))
    ]  # fmt: skip
    shards = shards_of(tmp_path, *given)
    read = WebDataset("test", shards, **KEYS)
    assert len(read) == 6 and not read.notices
    for index, expected in enumerate(given):
        found = read[index]
        assert found.key == expected.key and found.header == expected.header
        assert list(found.source) == ["labels", "depth"]
        assert all(alike(found.source[name], expected.source[name]) for name in found.source)
        assert alike(found.target, expected.target) and alike(found.mask, expected.mask)
    assert members(shards)[:6] == [
        "1%2E0.labels.png", "1%2E0.depth.png", "1%2E0.target.png", "1%2E0.mask.png", "1%2E1.labels.npy",
        "1%2E1.depth.npy",
    ]  # fmt: skip
    turned = WebDataset("test", shards, source=["depth", "labels"], mask="mask")
    assert list(turned[0].source) == ["depth", "labels"] and alike(turned[0].source["depth"], given[0].source["depth"])
    assert turned.fingerprint() != read.fingerprint()


def test_masks_of_bool_weigh_as_much(tmp_path: Path) -> None:
    flags = RANDOM.random((6, 8)) < 0.5
    read = WebDataset("test", shards_of(tmp_path, sample(mask=flags), sample("b", mask=flags[:, :, None])), **KEYS)
    for index in range(2):
        assert read[index].mask.dtype == np.uint8 and np.array_equal(read[index].mask, flags[:, :, None] * 255)


def test_palettes_and_few_bits_of_several_sources_are_kept(tmp_path: Path) -> None:
    image = Image.fromarray(RANDOM.integers(0, 4, (6, 8)).astype(np.uint8))
    image.putpalette(bytes([9, 9, 9, 9, 9, 9, 1, 2, 3, 7, 7, 7]))
    image.save(tmp_path / "map.png")
    sources = {
        "labels": read_image(tmp_path / "map.png"),
        "depth": stored(RANDOM.integers(0, 4, (6, 8, 1)).astype(np.uint8) * FULL_SCALE[2], 2),
    }
    found = WebDataset("test", shards_of(tmp_path, sample(source=sources)), **KEYS)[0].source
    for name, expected in sources.items():
        assert alike(found[name], expected) and np.array_equal(as_indices(found[name]), as_indices(expected))


def test_folders_of_several_sources_become_shards(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2)):
        for index in range(count):
            images = {"labels": pixels(), "depth": pixels(np.uint16, 1), "photo": pixels(), "hole": pixels(channels=1)}
            for side, image in images.items():
                save(tmp_path / "data" / split / side / f"{index}.png", image)
    sides = {"source": ["labels", "depth"], "target": "photo", "mask": "hole"}
    sets = {
        split: create("datasets", "paired_folders", split=split, root=tmp_path / "data", **sides)
        for split in ("train", "val")
    }
    make_shards(sets, "f", tmp_path / "shards", 3)
    for split, whole in sets.items():
        read = WebDataset(split, tmp_path / "shards", **KEYS)
        by_key = {each.key: each for each in (read[index] for index in range(len(read)))}
        assert len(by_key) == len(whole) and read.source_files
        for expected in (whole[index] for index in range(len(whole))):
            found = by_key[expected.key]
            assert found.header == expected.header
            assert alike(found.target, expected.target) and alike(found.mask, expected.mask)
            assert all(alike(found.source[name], expected.source[name]) for name in sides["source"])


def test_a_mask_of_one_source(tmp_path: Path) -> None:
    given = sample(source=pixels())
    shards = shards_of(tmp_path, given)
    assert members(shards) == ["a.source.png", "a.target.png", "a.mask.png"]
    found = WebDataset("test", shards, mask="mask")[0]
    assert alike(found.source, given.source) and alike(found.mask, given.mask)
    without = WebDataset("test", shards)
    assert without[0].mask is None and without.notices == [
        f'{shards}/test: its members mask are not read; all are with data.source = "source", data.mask = "mask"'
    ]


def test_one_source_without_a_mask_has_the_index_that_it_had(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, sample(source=pixels(), mask=None))
    assert members(shards) == ["a.source.png", "a.target.png"]
    assert list(json.loads((shards / "test" / "shards.json").read_text())) == ["version", "shards", "stored_as"]
    assert WebDataset("test", shards).notices == [] and WebDataset("test", shards)[0].mask is None


@pytest.mark.parametrize(
    ("keys", "missing", "unread"),
    [
        ({}, "source", ""),
        ({"source": ["labels", "deep"], "mask": "mask"}, "deep", ""),
        ({"source": ["labels", "depth"], "mask": "weights"}, "weights", ""),
        ({"source": ["labels", "depth"]}, "", "mask"),
        ({"source": "labels"}, "", "depth, mask"),
        ({"source": ["labels.png", "depth"], "mask": "mask.png"}, "", ""),
    ],
)
def test_members_that_a_recipe_does_not_name(keys: dict[str, Any], missing: str, unread: str, tmp_path: Path) -> None:
    shards, read_with = shards_of(tmp_path, sample()), 'data.source = ["labels", "depth"], data.mask = "mask"'
    if missing:
        with pytest.raises(RecipeError) as refused:
            WebDataset("test", shards, **keys)
        expected = f"{shards}/test: its shards have no members {missing}; what they have is read with {read_with}"
        assert str(refused.value) == expected
    else:
        notices = [f"{shards}/test: its members {unread} are not read; all are with {read_with}"] * bool(unread)
        assert WebDataset("test", shards, **keys).notices == notices


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([sample(source={"a.b": pixels()})], "a: a source is called 'a.b', which no member of a shard can be"),
        ([sample(source={"a/b": pixels()})], "a: a source is called 'a/b', which no member"),
        ([sample(source={"target": pixels()})], "a: a source is called 'target', which no member"),
        ([sample(source={"mask": pixels(channels=1)})], "a: a source is called 'mask', as the mask would be"),
        ([sample(), sample("b", mask=None)], "b: its sources have other names than those of the first sample, or only"),
        ([sample(), sample("b", source=pixels())], "b: its sources have other names than those of the first sample"),
    ],
)
def test_what_cannot_be_sharded(samples: list[Sample], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        shards_of(tmp_path, *samples)
    assert str(refused.value).startswith(reason) and not list(tmp_path.rglob("*.tar"))


def test_a_source_that_is_the_mask_is_one_member(tmp_path: Path) -> None:
    mask = pixels(channels=1)
    shards = shards_of(tmp_path, sample(source={"photo": pixels(), "mask": mask}, mask=mask))
    assert members(shards) == ["a.photo.png", "a.mask.png", "a.target.png"]
    found = WebDataset("test", shards, source=["photo", "mask"], mask="mask")[0]
    assert alike(found.source["mask"], mask) and alike(found.mask, mask)


def test_shards_of_others(tmp_path: Path) -> None:
    file = BytesIO()
    np.save(file, pixels(np.float32, 1)[:4, :4])
    write_tar(tmp_path / "0.tar", {
        "a.seg.png": png(1), "a.depth.x.npy": file.getvalue(), "a.jpg": png(2), "a.hole.png": png(3),
        "b.seg.png": png(4), "b.depth.x.npy": file.getvalue(), "b.jpg": png(5), "b.json": b"{}",
    })  # fmt: skip
    read = WebDataset("train", tmp_path, source=["seg", "depth.x"], target="jpg", mask="hole")
    first = read[0]
    assert [int(image.max()) for image in (first.source["seg"], first.target, first.mask)] == [1, 2, 3]
    assert np.array_equal(first.source["depth"], np.load(BytesIO(file.getvalue())))
    with pytest.raises(DataError, match=r"b\.hole: this member is not there; all of a sample must be, one after the"):
        read[1]
    both = WebDataset("train", tmp_path, source=["seg.png"], target="jpg", mask="seg.png")[1]
    assert both.source["seg"].max() == both.mask.max() == 4


@pytest.mark.parametrize(
    "keys",
    [{"source": ["a", "a"]}, {"source": []}, {"source": ["a", "a.b"]}, {"source": ["a", "target"]}, {"mask": "target"}],
)
def test_members_of_one_name(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="need an extension of their own"):
        WebDataset("train", tmp_path, **keys)


def test_over_http(site: Site, shards: Path, tmp_path: Path) -> None:
    given = sample()
    make_shards({"train": Samples([given])}, "f", shards / "several", 4)
    found = WebDatasetOverHTTP("train", f"{site.url}/several", tmp_path / "cache", **KEYS)[0]
    assert all(alike(found.source[name], given.source[name]) for name in given.source) and alike(found.mask, given.mask)


def test_a_recipe_trains_on_shards_as_on_folders(program: Call, recipe: Path, tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            images = {"labels": (24, 24, 3), "depth": (24, 24), "photo": (24, 24, 3), "hole": (24, 24)}
            for side, shape in images.items():
                dtype = np.uint16 if side == "depth" else np.uint8
                image = RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
                save(tmp_path / "data" / split / side / f"{index}.png", image)
    folders = f'name = "paired_folders", root = "{tmp_path}/data", source = ["labels", "depth"], target = "photo"'
    folders = f'data={{{folders}, mask = "hole"}}'
    made = program("data", "shard", recipe, "--out", tmp_path / "shards", "--set", folders)
    assert made.code == 0 and "4 training pairs, 2 val pairs, 0 test pairs" in made.out, made.err
    shards = 'name = "webdataset", root = "{}", source = ["labels", "depth"], mask = "mask"'
    shards = f"data={{{shards.format(tmp_path / 'shards')}}}"
    measured = []
    for number, chosen in enumerate((folders, shards)):
        # the order of training differs, so nothing is learnt
        settings = ("--set", chosen, "--set", "train.max_steps=1", "--set", "optimizer.lr=1e-30")
        outcome = program("run", recipe, "--out", tmp_path / str(number), *settings)
        assert outcome.code == 0, outcome.err
        lines = [json.loads(line) for line in (tmp_path / str(number) / "metrics.jsonl").read_text().splitlines()]
        measured.append({key: value for line in lines for key, value in line.items() if "validation/" in key})
    assert measured[0] and measured[0] == measured[1]
