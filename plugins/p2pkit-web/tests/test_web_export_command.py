"""``p2pkit export --format web`` and the folders that it leaves."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from web_site import model_of

from p2pkit.contracts import Policy
from p2pkit.inference.model_header import ClassHeader, DrawingHeader
from p2pkit.testing import check_component
from tests.conftest import Call
from tests.plugins_in_tree import registered_by


@pytest.fixture
def export(program: Call, tmp_path: Path) -> Callable[..., Path]:
    """Export a model into a folder that gets something more, as npm would put it there."""

    def made(model: Path | str) -> Path:
        outcome = program("export", model, "--format", "web", "--out", folder := tmp_path / "page")
        assert outcome.code == 0, outcome.err
        (folder / "node_modules").mkdir()
        return folder

    return made


def test_exporting_again_keeps_what_else_is_there(export: Callable[..., Path], program: Call, tmp_path: Path) -> None:
    folder = export("p2pkit:quickstart")
    before = (folder / "model.onnx").read_bytes()
    model = model_of(tmp_path / "other.safetensors")
    assert program("export", model, "--format", "web", "--out", folder, "--set", "runtime=https://x.test/ort").code == 0
    about = json.loads((folder / "model.json").read_text())
    assert (folder / "model.onnx").read_bytes() != before and (folder / "node_modules").is_dir()
    assert about["runtime"] == "https://x.test/ort/" and about["model"]["noise"]
    assert sorted(each.name for each in folder.parent.iterdir() if each.name.endswith(".part")) == []


@pytest.mark.usefixtures("program")  # with which the plugin is there
@pytest.mark.parametrize("component", registered_by("p2pkit-web"), ids=str)
def test_components_fulfil_their_contracts(component: tuple[str, str]) -> None:
    check_component(*component)


def test_what_fails_in_the_end_brings_back_what_was_there(
    export: Callable[..., Path], program: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export("p2pkit:quickstart")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    command = ("export", model_of(tmp_path / "other.safetensors"), "--format", "web", "--out")
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name == "static" and ".part" in str(self.parent):
            raise OSError(errno.ENOSPC, "full")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert program(*command, folder).code == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert (folder / "static" / "page.js").is_file()
    (folder / "static").rename(folder / ".static.0a1b2c3d.part")  # as a kill leaves it
    monkeypatch.chdir(folder)
    assert program(*command, ".").code == 0
    (empty := tmp_path / "empty" / ".new.0a1b2c3d.part").mkdir(parents=True)  # of a kill before that
    assert program(*command, empty.parent).code == 0 and not empty.exists()
    assert sorted(each.name for each in folder.iterdir()) == [
        "index.html", "model.json", "model.onnx", "node_modules", "static",
    ]  # fmt: skip


def test_what_no_page_can_do_is_refused(program: Call, tmp_path: Path) -> None:
    command = ("export", "--format", "web", "--out", folder := tmp_path / "page")
    deep = model_of(
        tmp_path / "deep.safetensors", source_dtype="float32", source_range=(0.0, 9.0), target_dtype="float32",
        target_range=(0.0, 9.0), source_nodata=0.0,
    )  # fmt: skip
    outcome = program(*command, deep)
    assert outcome.code == 2 and not folder.exists()
    for words in ("its source is of float32", '"nothing here"', "3 channels of float32", "p2pkit serve"):
        assert words in outcome.err
    model = model_of(tmp_path / "plain.safetensors")
    assert "expected the URL of a folder" in program(*command, model, "--set", "runtime=dist").err
    folder.mkdir()
    (folder / "index.html").write_text("mine")
    outcome = program(*command, model)
    assert outcome.code == 2 and "something else in that folder" in outcome.err
    assert (folder / "index.html").read_text() == "mine"
    assert "a file is there" in program("export", "--format", "web", "--out", model, tmp_path / "deep.safetensors").err


def test_drawings_and_policy_are_in_the_folder(export: Callable[..., Path], tmp_path: Path) -> None:
    classes = tuple(ClassHeader(name=name, values=(float(at),)) for at, name in enumerate(("sky", "ground")))
    model = model_of(
        tmp_path / "m.safetensors",
        1,
        drawings={"": DrawingHeader(kind="labels", classes=classes)},
        policy=Policy("batch", False),
    )
    about = json.loads((export(model) / "model.json").read_text())
    assert [each["name"] for each in about["model"]["sources"][0]["classes"]] == ["sky", "ground"]
    assert about["noise"] == [] and not about["model"]["noise"]
