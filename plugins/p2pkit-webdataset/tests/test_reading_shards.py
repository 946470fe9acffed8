"""Shards that nobody vouches for: damaged, hostile, of others."""

from __future__ import annotations

import os
import pickle
import tarfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset_tars import png, write_tar

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit_webdataset import dataset
from p2pkit_webdataset.dataset import WebDataset
from p2pkit_webdataset.shard import open_shard
from tests.conftest import Call

PAIR = {"a.source.png": png(1), "a.target.png": png(2)}


def header(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def array(value: Any) -> bytes:
    file = BytesIO()
    np.save(file, value)
    return file.getvalue()


def test_shards_of_others_are_counted_and_their_keys_left_alone(program: Call, recipe: Path, tmp_path: Path) -> None:
    root = tmp_path / "theirs"
    for number in range(2):
        members = {}
        for index in range(3):
            key = f"./deep.er/{number}{index}%2E"
            members |= {f"{key}.json": b"{}", f"{key}.PNG": b"", f"{key}.jpg": png(index, 24)}
            members |= {f"{key}.seg.png": png(10 * number, 24)}
        write_tar(
            root / "train" / f"{number}.tar", {"README": b"hello", "dir": header("dir", tarfile.DIRTYPE), **members}
        )
    read = WebDataset("train", root, source="seg", target="jpg")
    assert read.shards == [3, 3] and read[4].key == "./deep.er/11%2E"
    assert read[4].source[0, 0, 0] == 10 and read[4].target[0, 0, 0] == 1
    assert len(WebDataset("test", root)) == 0
    before = read.fingerprint()
    assert before != WebDataset("train", root, source="jpg", target="seg").fingerprint()
    write_tar(root / "train" / "2.tar", {"x.jpg": png(0, 24), "x.seg.png": png(0, 24)})
    assert before != WebDataset("train", root, source="seg", target="jpg").fingerprint()
    text = recipe.read_text()
    data = f'[data]\nname = "webdataset"\nroot = "{root}"\nsource = "seg"\ntarget = "jpg"\n\n'
    recipe.write_text(data + text[text.index("[loader]") :])
    trained = program("run", recipe, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err


def test_without_folders_of_splits_all_is_for_training(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", PAIR)
    assert len(WebDataset("train", tmp_path)) == 1 and len(WebDataset("test", tmp_path)) == 0
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="no folder train"):
        WebDataset("train", tmp_path)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {**PAIR, "b": header("b.source.png", tarfile.SYMTYPE, "/etc/passwd")},
            r"refused, its member 'b\.source\.png'",
        ),
        ({**PAIR, "b": header("b.source.png", tarfile.LNKTYPE, "a.source.png")}, "refused, its member"),
        ({**PAIR, "b": header("b.source.png", tarfile.CHRTYPE)}, "refused, its member"),
        ({"a.jpg": b"", "a.cls": b""}, r"no member ends in \.source or \.target.*\.jpg, \.cls\. Set data\.source"),
        ({}, "it is empty"),
        ({**PAIR, "a.source.jpg": b""}, "a has two members that could be its source"),
    ],
)
def test_shards_that_cannot_be_taken_in_are_reported_at_the_start(members: Any, expected: str, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "train" / "x.tar", members)
    with pytest.raises(DataError, match=f"{shard}: .*{expected}"):
        WebDataset("train", tmp_path)


def test_members_with_hostile_names_are_read_and_unpacked_nowhere(tmp_path: Path) -> None:
    names = ("../../out", "/etc/out", "C:\\out")
    members = {f"{name}.{side}.png": png(1) for name in names for side in ("source", "target")}
    write_tar(tmp_path / "root" / "train" / "x.tar", members)
    before = sorted(tmp_path.rglob("*"))
    read = WebDataset("train", tmp_path / "root")
    assert [read[index].key for index in range(3)] == list(names)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "this member is not there; both of a pair must be"),
        (b"no image", "not an image"),
        (png()[:-26], "damaged or incomplete"),
        (array(np.zeros((4, 4, 3)))[:-8], "not as long as its shape"),
        (array(np.zeros(4)), "its shape is"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "has version"),
        (pickle.dumps(1), "not an image"),
        (array(np.array([[[print]]])), "never unpickled"),
        (array(np.zeros((4, 4, 3))).replace(b"(4, 4, 3)", b"(9**9,9)"), "cannot be read"),
        (array(np.zeros((4, 4, 3), np.uint8)).replace(b"4, 3), }         ", b"4, 33333333333), }"), "not as long as"),
    ],
    ids=["missing", "text", "cut png", "cut array", "vector", "version", "pickle", "objects", "code", "huge"],
)
def test_one_bad_member_is_named_and_the_others_are_read(content: bytes | None, expected: str, tmp_path: Path) -> None:
    bad = {"b.target.png": png(), **({} if content is None else {"b.source.png": content})}
    shard = write_tar(tmp_path / "train" / "x.tar", {**PAIR, **bad, "c.source.npy": png(), "c.target.npy": png()})
    read = WebDataset("train", tmp_path)
    assert len(read) == 3 and read[0].key == "a" and read[2].key == "c"
    with pytest.raises(DataError, match=rf"{shard}: b\.source: .*({expected})"):
        read[1]


def test_an_image_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    small = png()
    header = b"IHDR" + (2**16).to_bytes(4) * 2 + small[24:29]
    bomb = small[:12] + header + zlib.crc32(header).to_bytes(4) + small[33:]
    write_tar(tmp_path / "train" / "x.tar", {"a.source.png": bomb, "a.target.png": png()})
    with pytest.raises(DataError, match=r"a\.source: refused, it unpacks to more pixels"):
        WebDataset("train", tmp_path)[0]


def test_a_shard_cut_short_or_changed_is_reported(shards: Path) -> None:
    shard = shards / "train" / "shard-000001.tar"
    whole = shard.read_bytes()
    for content, expected in (
        (whole[:3000], "damaged or cut short"),
        (whole[:512] + b"\xff" * 512 + whole[1024:], "."),
        (whole[:-512], "has changed, or is not all there"),
        (b"", "damaged or cut short"),
    ):
        shard.write_bytes(content)
        with pytest.raises(DataError, match=f"{shard}: .*{expected}"):
            WebDataset("train", shards)[2]
    shard.unlink()
    read = WebDataset("train", shards)
    with pytest.raises(DataError, match=f"{shard}: there is no such shard"):
        read[2]
    assert read[0].key and read[4].key


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("no JSON", "no index of shards"),
        ('{"version": 2, "shards": []}', "version"),
        ('{"shards": [{"name": "../x.tar", "pairs": 1, "size": 1}]}', "name"),
        ('{"shards": [{"name": "x.tar", "pairs": -1, "size": 1}]}', "pairs"),
        ('{"shards": [{"name": "x.tar", "pairs": "1", "size": 1}]}', "pairs"),
    ],
)
def test_an_index_that_is_none_is_reported(index: str, expected: str, shards: Path) -> None:
    (shards / "train" / "shards.json").write_text(index)
    with pytest.raises(DataError, match=rf"shards\.json: .*{expected}"):
        WebDataset("train", shards)


@pytest.mark.parametrize("folders", [[], ["train"]])
def test_no_shards_are_reported(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=r"neither shards\.json nor shards"):
        WebDataset("train", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        WebDataset("train", tmp_path / "nowhere")


def test_which_shards_count(program: Call, shards: Path, recipe: Path, tmp_path: Path) -> None:
    (shards / "train" / "shards.json").unlink()
    (shards / "train" / "._shard-000000.tar").write_bytes(b"what a Mac leaves")
    assert len(WebDataset("train", shards)) == 6
    (shards / "test").rename(shards / "Validation")
    assert [len(WebDataset(split, shards)) for split in ("train", "val", "test")] == [6, 2, 0]
    (tmp_path / "high").mkdir()
    shards.rename(tmp_path / "high" / "shards")
    with pytest.raises(DataError, match=f'it has no folder train, but .* give data.root = "{tmp_path}/high/shards"'):
        WebDataset("train", tmp_path / "high")


def test_a_val_set_is_made_before_there_are_shards(
    program: Call, shards: Path, sharded: Path, recipe: Path, tmp_path: Path
) -> None:
    refused = program("check", sharded, "--set", "data.split=0.5")
    assert refused.code == 2 and "set the key in the recipe that p2pkit data shard makes them of" in refused.err
    made = program("data", "shard", recipe, "--out", tmp_path / "split", "--set", "data.split=0.5")
    assert made.code == 0, made.err
    sets = [library.load_data(recipe, ["data.split=0.5"])]
    sets.append(library.load_data(sharded, [f"data.root={tmp_path}/split"]))
    keys = [[{samples[index].key for index in range(len(samples))} for samples in data.sets] for data in sets]
    assert keys[0] == keys[1] and keys[0][0] and keys[0][1]


def test_keys_of_names_that_are_not_utf_8_come_back(program: Call, recipe: Path, pairs: Path, tmp_path: Path) -> None:
    (pairs / "train" / "0.png").rename(pairs / "train" / os.fsdecode(b"caf\xe9.png"))
    assert program("data", "shard", recipe, "--out", tmp_path / "odd").code == 0
    found = WebDataset("train", tmp_path / "odd")
    assert r"train/caf\xe9.png" in {found[index].key for index in range(len(found))}


def test_few_shards_are_open_at_a_time(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "OPEN_SHARDS", 2)
    opened: list[Path] = []

    def opening(file: Path, name: str) -> int:
        opened.append(file)
        return open_shard(file, name)

    monkeypatch.setattr(dataset, "open_shard", opening)

    def descriptors() -> int:
        return sum(1 for link in Path("/proc/self/fd").iterdir() if link.exists() and shards in link.resolve().parents)

    read = WebDataset("train", shards)
    for index in (0, 1, 2, 3, 0, 4, 5, 1, 2):
        assert read[index].key
    assert [file.name[-5] for file in opened] == ["0", "1", "2", "1"]
    assert descriptors() == 2
    del read
    assert descriptors() == 0


def test_a_copy_sent_to_another_process_reads_on(shards: Path) -> None:
    read = WebDataset("train", shards)
    first = read[0]
    copy = pickle.loads(pickle.dumps(read))  # as a worker that is not forked gets it
    assert copy[0].key == first.key and np.array_equal(copy[0].source, first.source)
