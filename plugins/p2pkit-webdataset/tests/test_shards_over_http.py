"""Shards on a web server: kept while there is room, whole or not at all, whatever the server does."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
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
    assert sorted(file.stat().st_size for file in cache.iterdir()) == sorted(
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
