"""Shards on a web server: kept while there is room, whole or not at all, whatever the server does."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from safetensors.torch import load_file

from p2pkit.contracts import Split
from p2pkit.errors import DataError
from p2pkit_webdataset.dataset import WebDataset, WebDatasetOverHTTP
from tests.conftest import Call
from tests.web import Site


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def asked(site: Site) -> list[str]:
    """The shards that the server was asked for."""
    return [path for path in site.paths if path.endswith(".tar")]


def kept(cache: Path) -> list[Path]:
    return sorted(file for file in cache.iterdir() if file.suffix == ".tar")


def test_a_run_over_http_is_the_run_on_disk_and_downloads_each_shard_once(
    program: Call, sharded: Path, site: Site, shards: Path, cache: Path, tmp_path: Path
) -> None:
    assert program("run", sharded, "--out", tmp_path / "disk").code == 0
    remote = f'name = "webdataset_http"\nurl = "{site.url}"\ncache = "{cache}"'
    sharded.write_text(sharded.read_text().replace(f'name = "webdataset"\nroot = "{shards}"', remote))
    outcome = program("run", sharded, "--out", tmp_path / "http", "--set", "loader.workers=2")
    assert outcome.code == 0, outcome.err
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("disk", "http"))
    assert all(bool((one[name] == two[name]).all()) for name in one)
    assert len(asked(site)) == len(set(asked(site))) == 4
    assert sorted(file.stat().st_size for file in kept(cache)) == sorted(
        file.stat().st_size for file in shards.glob("*/*.tar")
    )


def test_a_run_resumes_to_the_same_bytes_although_its_cache_is_emptied(
    program: Call, sharded: Path, site: Site, shards: Path, cache: Path, tmp_path: Path
) -> None:
    # room for one shard alone, so that others make room for it in every epoch
    remote = f'name = "webdataset_http"\nurl = "{site.url}"\ncache = "{cache}"\ncache_gigabytes = 1e-5'
    sharded.write_text(sharded.read_text().replace(f'name = "webdataset"\nroot = "{shards}"', remote))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = ("train.max_steps=7", "train.checkpoint_every=1", "train.keep_checkpoints=4")
    outcome = program("run", sharded, "--out", whole, *(part for each in settings for part in ("--set", each)))
    assert outcome.code == 0, outcome.err
    shutil.copytree(whole, cut)
    for folder in sorted((cut / "checkpoints").iterdir())[-2:]:
        shutil.rmtree(folder)
    shutil.rmtree(cache)
    before = len(asked(site))
    resumed = program("run", "--resume", cut)
    assert resumed.code == 0 and "resuming from step 5" in resumed.err, resumed.err
    assert len(asked(site)) > before
    last = Path("checkpoints/step_00000007")
    for name in ("model.safetensors", "metrics.jsonl", last / "networks.safetensors", last / "optimizers.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_shards_opened_longest_ago_make_room(site: Site, shards: Path, cache: Path) -> None:
    two_fit = 2.5 * (shards / "train" / "shard-000000.tar").stat().st_size / 1e9
    read = WebDatasetOverHTTP("train", site.url, cache, two_fit)
    local = WebDataset("train", shards)
    for index in (0, 2, 4, 0):
        assert np.array_equal(read[index].source, local[index].source)
    # the first was removed for the third, and is still open
    assert len(kept(cache)) == 2 and len(asked(site)) == 3
    another = WebDatasetOverHTTP("train", site.url, cache, two_fit)
    assert another[2].key == local[2].key and len(asked(site)) == 3
    assert another[0].key == local[0].key and len(asked(site)) == 4
    assert len(kept(cache)) == 2


def test_only_what_was_downloaded_to_the_cache_is_removed_from_it(site: Site, shards: Path, cache: Path) -> None:
    size = (shards / "train" / "shard-000000.tar").stat().st_size
    cache.mkdir()
    others = [cache / "photos.tar", cache / f"{'0' * 64}.tar", cache / ".hidden.tar", cache / "sub" / "more.tar"]
    others[-1].parent.mkdir()
    for file in others:
        file.write_bytes(bytes(2 * size))
        os.utime(file, (0, 0))
    elsewhere = cache.with_name("elsewhere.tar")
    elsewhere.write_bytes(bytes(size))
    (cache / "linked.tar").symlink_to(elsewhere)
    (cache / "written_here.json").write_text(json.dumps({"shards": ["photos.tar", "../elsewhere.tar", "sub/more.tar"]}))
    read = WebDatasetOverHTTP("train", site.url, cache, 1.5 * size / 1e9)
    for index in (0, 2, 4):
        assert read[index].key
    assert all(file.stat().st_size == 2 * size for file in others)
    assert elsewhere.stat().st_size == size and (cache / "linked.tar").is_symlink()
    # those of others do not count either
    ours = [file for file in kept(cache) if file not in others and not file.is_symlink()]
    assert len(ours) == 1
    assert json.loads((cache / "written_here.json").read_text())["shards"] == [ours[0].name]


def test_a_file_of_somebody_else_in_place_of_a_shard_is_kept_and_reported(
    site: Site, shards: Path, cache: Path
) -> None:
    entry = json.loads((shards / "train" / "shards.json").read_text())["shards"][0]
    cache.mkdir()
    (cache / f"{entry['sha256']}.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match="was not downloaded here"):
        WebDatasetOverHTTP("train", site.url, cache)[0]
    assert (cache / f"{entry['sha256']}.tar").read_bytes() == b"mine"


@pytest.mark.parametrize("listed", [b"", b"{", b"[]", b'{"shards": 1}', b'{"shards": [1]}', b"[" * 100_000, b"\xff"])
def test_a_damaged_list_removes_nothing(
    listed: bytes, site: Site, shards: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (shards / "train" / "shard-000000.tar").stat().st_size
    read = WebDatasetOverHTTP("train", site.url, cache, 1.5 * size / 1e9)
    assert read[0].key
    (cache / "written_here.json").write_bytes(listed)
    assert read[2].key and len(kept(cache)) == 2
    assert "is damaged: the shards beside it are taken for somebody else's" in capsys.readouterr().err
    assert read[4].key and len(kept(cache)) == 2, "what is downloaded from then on is ours again"


def test_what_a_kill_has_left_of_a_shard_makes_room_unless_it_is_being_downloaded(
    site: Site, shards: Path, cache: Path
) -> None:
    size = (shards / "train" / "shard-000000.tar").stat().st_size
    names = [f"{digit * 64}.tar" for digit in "01"]
    cache.mkdir()
    (cache / "written_here.json").write_text(json.dumps({"shards": names}))
    for name in names:
        (cache / f"{name}.part").write_bytes(bytes(2 * size))
        (cache / f"{name}.part.json").write_text("{}")
    read = WebDatasetOverHTTP("train", site.url, cache, 1.5 * size / 1e9)
    with FileLock(cache / f"{names[0]}.lock"):
        assert read[0].key
    assert (cache / f"{names[0]}.part").exists() and (cache / f"{names[0]}.part.json").exists()
    assert not (cache / f"{names[1]}.part").exists() and not (cache / f"{names[1]}.part.json").exists()


def test_those_who_want_one_shard_download_it_once(site: Site, cache: Path) -> None:
    readers = [WebDatasetOverHTTP("train", site.url, cache) for _ in range(4)]
    site.delay = 0.1
    keys: list[str] = []
    threads = [threading.Thread(target=lambda reader=reader: keys.append(reader[0].key)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4 and len(set(keys)) == 1 and len(asked(site)) == 1


def test_a_connection_that_breaks_is_resumed_where_it_stopped(site: Site, cache: Path) -> None:
    read = WebDatasetOverHTTP("train", site.url, cache)
    site.asked.clear()
    site.cut_after = [1000, 1000]
    assert read[0].key
    assert site.asked == [None, "bytes=1000-", "bytes=2000-"]


def test_a_server_in_trouble_is_asked_again_and_then_given_up(site: Site, cache: Path) -> None:
    read = WebDatasetOverHTTP("train", site.url, cache)
    site.status = 503

    def mend() -> None:
        while not asked(site):
            time.sleep(0.01)
        site.status = 200

    mending = threading.Thread(target=mend)
    mending.start()
    assert read[0].key
    mending.join()
    site.status = 503
    with pytest.raises(DataError, match=rf"{site.url}/train/shard-000001\.tar: .*HTTP 503"):
        read[2]


def test_a_shard_that_is_not_there_is_reported_at_once(site: Site, shards: Path, cache: Path) -> None:
    read = WebDatasetOverHTTP("train", site.url, cache)
    (shards / "train" / "shard-000001.tar").unlink()
    with pytest.raises(DataError, match=rf"{site.url}/train/shard-000001\.tar: .*HTTP 404"):
        read[2]
    assert len(asked(site)) == 1


def test_a_shard_that_is_not_what_the_index_says_is_refused(site: Site, shards: Path, cache: Path) -> None:
    shard = shards / "train" / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[::-1])
    read = WebDatasetOverHTTP("train", site.url, cache)
    with pytest.raises(DataError, match=r"shard-000001\.tar is not the expected file: its SHA256"):
        read[2]
    assert kept(cache) == []


def test_a_shard_spoilt_in_the_cache_is_fetched_again(site: Site, cache: Path) -> None:
    key = WebDatasetOverHTTP("train", site.url, cache)[0].key
    kept(cache)[0].write_bytes(b"")
    assert WebDatasetOverHTTP("train", site.url, cache)[0].key == key


def test_over_http_an_index_is_needed(site: Site, shards: Path, cache: Path) -> None:
    (shards / "test" / "shards.json").unlink()
    assert len(WebDatasetOverHTTP("test", site.url, cache)) == 0
    index = shards / "train" / "shards.json"
    text = index.read_text()
    index.write_text(text.replace('"sha256"', '"sha1"'))
    with pytest.raises(DataError, match=r"no checksum of shard-000000\.tar"):
        WebDatasetOverHTTP("train", site.url, cache)
    index.unlink()
    with pytest.raises(DataError, match=r"shards\.json: .*HTTP 404.*the index that p2pkit data shard writes"):
        WebDatasetOverHTTP("train", site.url, cache)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_server_that_is_not_there_is_reported(split: Split, site: Site, cache: Path) -> None:
    site.status = 500
    with pytest.raises(DataError, match="HTTP 500"):
        WebDatasetOverHTTP(split, site.url, cache)
    with pytest.raises(DataError, match="http://"):
        WebDatasetOverHTTP(split, "/some/folder", cache)
