"""The archives of pix2pix: found, downloaded, or what is missing said; facades drawn in their place, and said so."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pkit.builtin.datasets import archives
from p2pkit.downloads import download
from tests.conftest import Call, picture
from tests.web import Site, served


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")
    archives._fetch.cache_clear()
    yield
    archives._fetch.cache_clear()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server with an archive as that of pix2pix: photo left, labels right, three to train and one to validate."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in ("train/1", "train/2", "train/3", "val/1"):
            image = io.BytesIO()
            both = np.concatenate([picture(24, 24, 1), np.full((24, 24, 3), 7, np.uint8)], axis=1)
            Image.fromarray(both).save(image, "png")
            member = tarfile.TarInfo(f"facades/{name}.png")
            member.size = image.tell()
            image.seek(0)
            archive.addfile(member, image)
    with served(Site(content.getvalue())) as site:
        yield site


@pytest.fixture
def facades_recipe(recipe: Path, tmp_path: Path) -> Path:
    text = recipe.read_text()
    data = f'[data]\nname = "facades"\nroot = "{tmp_path}/datasets/facades"\nurl = "URL"\n'
    recipe.write_text(text[: text.index("[data]")] + data + text[text.index("[loader]") :])
    return recipe


def test_the_archive_is_downloaded_once_and_trains(
    facades_recipe: Path, site: Site, tmp_path: Path, p2pkit: Call
) -> None:
    md5 = hashlib.md5(site.content).hexdigest()
    settings = ("--set", f'data.url="{site.url}"', "--set", f'data.md5="{md5}"')
    outcome = p2pkit("run", facades_recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 0, outcome.err
    assert "Downloading" in outcome.err
    root = tmp_path / "datasets" / "facades"
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*.png")) == [
        "train/1.png", "train/2.png", "train/3.png", "val/1.png",
    ]  # fmt: skip
    archives._fetch.cache_clear()
    checked = p2pkit("check", facades_recipe, *settings)
    assert "3 training pairs, 1 val pair, 0 test pairs" in checked.out
    assert len(site.asked) == 1
    labels = archives.ArchivePairs("train", "facades", root)[0].source
    assert np.array_equal(labels, np.full((24, 24, 3), 7))


def test_a_wrong_checksum_leaves_nothing(facades_recipe: Path, site: Site, tmp_path: Path, p2pkit: Call) -> None:
    url = ("--set", f'data.url="{site.url}"')
    outcome = p2pkit("data", "check", facades_recipe, *url)
    assert outcome.code == 2 and "MD5" in outcome.err
    text = facades_recipe.read_text()
    facades_recipe.write_text(text.replace('url = "URL"', f'url = "{site.url}"\nwhen_unavailable = "procedural"'))
    drawn = p2pkit("data", "fetch", facades_recipe)
    assert drawn.code == 0 and "PROCEDURAL" in drawn.err and "MD5" in drawn.err
    facades_recipe.write_text(text)
    assert not (tmp_path / "datasets" / "facades").exists()
    archives._fetch.cache_clear()
    unchecked = p2pkit("data", "check", facades_recipe, *url, "--set", 'data.md5=""')
    assert unchecked.code == 0 and "all 4 pairs can be used" in unchecked.out


@pytest.fixture
def one_server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site in place of the server of the paper's authors, with its archive in place of each of theirs."""
    monkeypatch.setattr(archives, "SERVER", site.url.rpartition("/")[0])
    for name, known in archives.ARCHIVES.items():
        md5 = hashlib.md5(site.content).hexdigest()
        monkeypatch.setitem(archives.ARCHIVES, name, known._replace(megabytes=1, md5=known.md5 and md5))
    return site


@pytest.mark.parametrize("name", archives.ARCHIVES)
def test_data_fetch_downloads_by_name(
    name: str, one_server: Site, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = p2pkit("data", "fetch", name)
    assert outcome.code == 0 and f"{name}: 3 training pairs" in outcome.out
    assert outcome.err.index(f"{name}: 1 MB to download") < outcome.err.index("Downloading")
    assert one_server.paths == [f"/{name}.tar.gz"]
    assert (tmp_path / "datasets" / name / "train" / "1.png").is_file()
    assert p2pkit("data", "fetch", "facade").code == 2


def test_data_fetch_takes_a_recipe_too_and_goes_on_where_it_broke_off(
    one_server: Site, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    recipe = tmp_path / "shoes.toml"
    recipe.write_text(
        'extends = "p2pkit:edges2shoes"\n[data]\nname = "edges_from_targets"\n'
        f'of = {{name = "edges2shoes", root = "{tmp_path}/elsewhere"}}\n'
    )
    half = len(one_server.content) // 2
    one_server.cut_after = [half, 0, 0, 0]
    broken = p2pkit("data", "fetch", recipe)
    assert broken.code == 2 and "breaks off" in broken.err
    archives._fetch.cache_clear()
    one_server.asked.clear()
    outcome = p2pkit("data", "fetch", recipe)
    assert outcome.code == 0 and "3 training pairs" in outcome.out, outcome.err
    assert one_server.asked == [f"bytes={half}-"]
    assert (tmp_path / "elsewhere" / "val" / "1.png").is_file()


def test_too_little_space_is_said_before_anything_is_downloaded(
    one_server: Site, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    free, known = shutil.disk_usage(tmp_path).free, archives.ARCHIVES["maps"]
    monkeypatch.setitem(archives.ARCHIVES, "maps", known._replace(megabytes=free // archives.MB))
    outcome = p2pkit("data", "fetch", "maps")
    assert outcome.code == 2 and "GB are free there" in outcome.err
    assert one_server.asked == []


def test_check_downloads_nothing_and_says_what_would_come(
    one_server: Site, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = p2pkit("check", "p2pkit:map_to_aerial")
    assert outcome.code == 0 and "maps, NOT THERE" in outcome.out and "600x600" in outcome.out
    assert "the maps are not in datasets/maps, 1 MB to download" in " ".join(outcome.out.split())
    assert "54.414 M parameters" in outcome.out
    found = p2pkit("check", "p2pkit:map_to_aerial", "--json").json
    assert found["ok"] and found["data"]["missing"].startswith("the maps are not in")
    assert found["networks"]["generator"]["source"] == [3, 256, 256]
    assert one_server.asked == [] and list(tmp_path.iterdir()) == []


def test_only_facades_can_be_drawn(p2pkit: Call) -> None:
    outcome = p2pkit("check", "p2pkit:edges2shoes", "--set", "data.when_unavailable=procedural")
    assert outcome.code == 2 and "draws facades alone, not edges2shoes" in outcome.err


def test_without_a_server_nothing_falls_back_in_silence(facades_recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("data", "check", facades_recipe, "--set", 'data.url="http://127.0.0.1:9/facades.tar.gz"')
    assert outcome.code == 2
    assert "127.0.0.1:9" in outcome.err and "Traceback" not in outcome.err


def test_drawn_facades_take_their_place_when_the_recipe_says_so(
    facades_recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    settings = ("--set", 'data.url="http://127.0.0.1:9/x.tar.gz"', "--set", "data.when_unavailable=procedural")
    short = ("--set", "train.max_steps=1", "--set", "validation.max_images=1")
    run = tmp_path / "run"
    outcome = p2pkit("run", facades_recipe, "--out", run, *settings, *short)
    assert outcome.code == 0, outcome.err
    assert "NOTICE" in outcome.err and "PROCEDURAL FACADES" in outcome.err
    data = json.loads((run / "environment.json").read_text())["data"]
    assert "PROCEDURAL FACADES" in data["notices"][0]
    assert data["fingerprint"].startswith("procedural_facades")


def test_what_lies_where_they_go_is_seen_before_the_download(
    facades_recipe: Path, site: Site, tmp_path: Path, p2pkit: Call
) -> None:
    root, settings = tmp_path / "datasets" / "facades", ("--set", f'data.url="{site.url}"', "--set", 'data.md5=""')
    root.parent.mkdir()
    root.symlink_to(tmp_path / "nowhere")
    outcome = p2pkit("data", "check", facades_recipe, *settings)
    assert outcome.code == 2 and "move it away, or set data.root" in outcome.err and not site.asked
    root.unlink()
    root.mkdir()
    (root / ".DS_Store").touch()  # what a Mac leaves is kept, and in nobody's way
    outcome = p2pkit("data", "check", facades_recipe, *settings)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in root.iterdir()} == {".DS_Store", "train", "val"}
