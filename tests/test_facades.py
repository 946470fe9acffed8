"""The facades: found, downloaded, or drawn and said so."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pkit.builtin.datasets import facades
from p2pkit.components.signature import parameters_model
from tests.conftest import Call, picture
from tests.web import Site, served


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")
    facades._fetch.cache_clear()
    yield
    facades._fetch.cache_clear()


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
    facades._fetch.cache_clear()
    checked = p2pkit("check", facades_recipe, *settings)
    assert "3 training pairs, 1 val pair, 0 test pairs" in checked.out
    assert len(site.asked) == 1
    labels = facades.Facades("train", root)[0].source
    assert np.array_equal(labels, np.full((24, 24, 3), 7))


def test_a_wrong_checksum_leaves_nothing(facades_recipe: Path, site: Site, tmp_path: Path, p2pkit: Call) -> None:
    url = ("--set", f'data.url="{site.url}"')
    outcome = p2pkit("check", facades_recipe, *url)
    assert outcome.code == 2 and "MD5" in outcome.err
    drawn = p2pkit("check", facades_recipe, *url, "--set", "data.when_unavailable=procedural")
    assert drawn.code == 0 and "NOTICE" in drawn.out and "MD5" in drawn.out
    assert not (tmp_path / "datasets" / "facades").exists()
    facades._fetch.cache_clear()
    unchecked = p2pkit("check", facades_recipe, *url, "--set", 'data.md5=""')
    assert unchecked.code == 0 and "3 training pairs" in unchecked.out


def test_data_fetch_downloads_by_name(
    site: Site, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(facades.Facades.__init__, "__defaults__", (
        Path("datasets/facades"), "BtoA", site.url, hashlib.md5(site.content).hexdigest(), "fail",
    ))  # fmt: skip
    parameters_model.cache_clear()
    outcome = p2pkit("data", "fetch", "facades")
    parameters_model.cache_clear()
    assert outcome.code == 0 and "facades: 3 training pairs" in outcome.out
    assert (tmp_path / "datasets" / "facades" / "train" / "1.png").is_file()
    assert p2pkit("data", "fetch", "facade").code == 2


def test_without_a_server_nothing_falls_back_in_silence(facades_recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", facades_recipe, "--set", 'data.url="http://127.0.0.1:9/facades.tar.gz"')
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
