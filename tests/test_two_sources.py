"""Recipes with several sources and a mask through the command line: trained, resumed, measured, translated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.cli import main
from p2pkit.errors import DataError
from p2pkit.inference.model_file import read_model, write_model
from p2pkit.inference.pictures import to_pixels
from tests.conftest import NETWORKS, Call, forget_accelerator, picture, save, train, validation
from tests.scenes import SIDE, depth_map, weights_of, write_scene, write_scenes
from tests.test_translating_files import contents

TWO_SOURCES = (
    """
[run]
name = "two"

[data]
name = "paired_folders"
root = "{root}"
source = ["rgb", "depth"]
target = "photos"
mask = "weights"

[source.rgb]

[source.depth]
range = [0, 4095]

[loader]
workers = 0
batch_size = 2

[transform]
crop_size = 16
flip = true

[[metrics]]
name = "mae"

[validation]
every = 3

[train]
max_steps = 6
log_every = 1
sample_every = 3
checkpoint_every = 2
"""
    + NETWORKS
)
KILLED = """
import os, signal
from p2pkit.builtin.methods.pix2pix import Pix2Pix
from p2pkit.cli import main
step, steps = Pix2Pix.train_step, []
def stepped(self, batch, update):
    steps.append(None)
    if len(steps) > 6:  # one is the trial before the run
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, update)
Pix2Pix.train_step = stepped
main()
"""


def arguments(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "scenes")


@pytest.fixture
def two(tmp_path: Path, scenes: Path) -> Path:
    """The recipe on these scenes."""
    file = tmp_path / "two.toml"
    file.write_text(TWO_SOURCES.format(root=scenes))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone; its data is in the folder beside it, scenes."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "two.toml").write_text(TWO_SOURCES.format(root=write_scenes(folder / "scenes")))
    forget_accelerator()
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "two.toml"), "--out", str(folder / "run")])
    assert ended.value.code in (0, None)
    return folder / "run"


def networks(run: Path, step: int = 6) -> bytes:
    """All weights of a checkpoint."""
    return (run / f"checkpoints/step_{step:08}/networks.safetensors").read_bytes()


def test_check_and_show_say_what_the_sources_are(two: Path, p2pkit: Call) -> None:
    outcome = p2pkit("check", two)
    assert outcome.code == 0, outcome.err
    assert "rgb" in outcome.out and "depth" in outcome.out and "mask" in outcome.out, outcome.out


def test_a_killed_run_resumes_exactly(trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    run, recipe = tmp_path / "run", trained.with_name("two.toml")
    command = [sys.executable, "-c", KILLED, "run", str(recipe), "--out", str(run)]
    ended = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["step_00000003", "step_00000004"]
    outcome = p2pkit("run", "--resume", run)
    assert outcome.code == 0, outcome.err
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl", "samples/step_00000006.png"):
        assert (run / name).read_bytes() == (trained / name).read_bytes(), name
    assert networks(run) == networks(trained)


def test_workers_and_cache_change_nothing(trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    caches = [(cache, ["loader.workers=1", f"loader.cache={cache}"]) for cache in ("memory", "disk", "disk", "device")]
    for number, (name, settings) in enumerate([("workers", ["loader.workers=2"]), *caches]):
        run = train(p2pkit, trained.with_name("two.toml"), tmp_path / f"{number}", *settings)
        assert networks(run) == networks(trained), name


def test_metrics_leave_out_what_does_not_count_and_state_the_coverage(trained: Path, p2pkit: Call) -> None:
    scenes = trained.with_name("scenes")
    translate, errors, coverage = library.load_model(trained, "cpu"), [], []
    for seed in (6, 7):
        found = translate({name: scenes / "val" / name / f"{seed}.png" for name in ("rgb", "depth")})
        target = np.asarray(Image.open(scenes / "val" / "photos" / f"{seed}.png")).astype(float)
        weights = weights_of(seed)[:, :, None] / 255
        errors.append(np.abs(weights * (np.asarray(found) - target)).mean() / 255)
        coverage.append(weights.mean())
    facts = validation(trained)
    assert facts["coverage"] == pytest.approx(np.mean(coverage), abs=1e-6)
    evaluated = p2pkit("evaluate", trained, "--split", "val", "--json").json
    assert evaluated["coverage"] == pytest.approx(facts["coverage"]) and evaluated["set"] == "val set"
    measured = evaluated["rows"]["model"]["mae"]
    assert measured == pytest.approx(np.mean(errors), abs=1e-3)  # outputs are rounded to 8 bits
    shown = p2pkit("evaluate", trained, "--split", "val")
    assert f"masks let {np.mean(coverage):.1%} of the pixels count" in shown.out, shown.out


def test_sample_grids_have_a_column_for_each_source_and_the_mask(trained: Path) -> None:
    grid = np.asarray(Image.open(trained / "samples" / "step_00000006.png")).astype(int)
    side, gap, top = 6 * SIDE, 8, 44
    assert grid.shape[1] == gap + 5 * (side + gap)
    columns = [grid[top : top + side, start : start + side] for start in range(gap, grid.shape[1], side + gap)]

    def enlarged(pixels: Any) -> Any:
        return pixels.astype(int).repeat(6, 0).repeat(6, 1)

    target = np.where(weights_of(6)[:, :, None] > 0, 255 - picture(SIDE, SIDE, 6), 128)  # where nothing counts: gray
    wanted = {0: picture(SIDE, SIDE, 6), 3: target}
    for place, pixels in wanted.items():
        assert np.abs(columns[place] - enlarged(pixels)).max() <= 1
    for place, pixels in {1: depth_map(6) / 4095 * 255, 4: weights_of(6)}.items():
        assert np.abs(columns[place] - enlarged(pixels)[:, :, None]).max() <= 1


def named(folder: Path) -> list[Any]:
    return ["--source", f"depth={folder / 'depth'}", "--source", f"rgb={folder / 'rgb'}"]


def test_folders_are_translated_by_name(trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    scenes, translate = trained.with_name("scenes"), library.load_model(trained, "cpu")
    outcome = p2pkit("translate", trained, *named(scenes / "test"), "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert sorted(contents(tmp_path / "out")) == ["8.png", "9.png"]
    for seed in (8, 9):
        found = np.asarray(Image.open(tmp_path / "out" / f"{seed}.png"))
        images = {"rgb": picture(SIDE, SIDE, seed), "depth": depth_map(seed)}
        assert found.shape == (SIDE, SIDE, 3) and np.array_equal(found, translate(images))
    # neither source is left unseen
    other = translate({**images, "depth": depth_map(1)}), translate({**images, "rgb": picture(SIDE, SIDE, 1)})
    assert all(not np.array_equal(found, each) for each in other)
    # one folder that holds both, and the samples of the data
    outcome = p2pkit("translate", trained, scenes / "test", "--out", tmp_path / "one")
    assert outcome.code == 0 and "sources are taken from the folders rgb, depth" in outcome.err
    assert p2pkit("translate", trained, "--split", "test", "--out", tmp_path / "data").code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "out")
    assert sorted(contents(tmp_path / "data").values()) == sorted(contents(tmp_path / "out").values())


def test_outputs_that_are_there_are_known_by_all_sources(trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    shutil.copytree(trained.with_name("scenes") / "test", tmp_path / "test")
    command = ("translate", trained, *named(tmp_path / "test"), "--out", tmp_path / "out", "--skip-existing")
    assert p2pkit(*command).code == 0
    outcome = p2pkit(*command)
    assert outcome.code == 0 and "(2 were there already)" in outcome.err
    save(tmp_path / "test" / "depth" / "9.png", depth_map(1))
    before = contents(tmp_path / "out")
    outcome = p2pkit(*command)
    assert outcome.code == 0 and "(1 was there already)" in outcome.err, outcome.err
    after = contents(tmp_path / "out")
    assert after["8.png"] == before["8.png"] and after["9.png"] != before["9.png"]


def test_single_files_are_translated_whatever_they_are_called(trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    rgb, depth = save(tmp_path / "a.png", picture(SIDE, 30, 1)), save(tmp_path / "d.png", depth_map(1, SIDE, 30))
    outcome = p2pkit(
        "translate", trained, "--source", f"rgb={rgb}", "--source", f"depth={depth}", "--out", tmp_path / "x.png"
    )
    assert outcome.code == 0, outcome.err
    found, translate = Image.open(tmp_path / "x.png"), library.load_model(trained, "cpu")
    assert found.size == (30, SIDE) and np.array_equal(found, translate({"rgb": rgb, "depth": depth}))


def test_what_lacks_a_partner_or_is_of_another_size_is_reported_and_the_rest_is_done(
    trained: Path, tmp_path: Path, p2pkit: Call
) -> None:
    shutil.copytree(trained.with_name("scenes") / "test", tmp_path / "test")
    save(tmp_path / "test" / "rgb" / "alone.png", picture(SIDE, SIDE, 1))
    save(tmp_path / "test" / "depth" / "far.png", depth_map(1))
    write_scene(tmp_path / "test", "unlike.png", 1)
    save(tmp_path / "test" / "depth" / "unlike.png", depth_map(1, 20, SIDE))
    for folder, extra in (("out", ()), ("tiles", ("--tile", "16", "--overlap", "8"))):
        outcome = p2pkit("translate", trained, *named(tmp_path / "test"), "--out", tmp_path / folder, *extra)
        assert outcome.code == 2 and "images could not be translated; the other" in outcome.err
        assert "alone: there is no file of that name for depth" in outcome.err
        assert "far: there is no file of that name for rgb" in outcome.err
        assert "differ in size (height x width): rgb is 24x24 and depth is 20x24" in outcome.err, outcome.err
        assert [Path(name).stem for name in sorted(contents(tmp_path / folder))] == ["8", "9"]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (["--source", "rgb=rgb"], "this model takes several sources: rgb, depth; given are rgb."),
        (["--source", "rgb=rgb", "--source", "dpeth=depth"], "rgb, depth; given are rgb, dpeth. Give a file or a"),
        (["--source", "rgb=rgb", "--source", "rgb=depth"], "'rgb' is given twice"),
        (["--source", "rgb"], "expected NAME=PATH"),
        (["--source", "rgb=rgb", "--source", "depth=nowhere"], "nowhere: there is no such file or folder"),
        (["--source", "rgb=rgb", "--source", "depth=empty"], "no images"),
        (["rgb"], "this model takes several sources: rgb, depth"),
        (["rgb/8.png", "depth/8.png"], "this model takes several sources: rgb, depth"),
        (["rgb", "--source", "depth=depth"], "give either INPUT or --source"),
    ],
)  # fmt: skip
def test_what_are_not_the_sources_of_the_model_is_refused(
    inputs: list[str], reason: str, trained: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(trained.with_name("scenes") / "test", tmp_path / "test"))
    Path("empty").mkdir()
    outcome = p2pkit("translate", trained, *inputs, "--out", tmp_path / "out")
    assert outcome.code == 2 and reason in outcome.err and "Traceback" not in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


def test_from_python(trained: Path, tmp_path: Path) -> None:
    translate = library.load_model(trained, "cpu")
    rgb, depth = picture(SIDE, SIDE, 3), depth_map(3)
    files = {"rgb": save(tmp_path / "a.png", rgb), "depth": save(tmp_path / "b.png", depth)}
    expected = translate({"depth": depth[:, :, None], "rgb": rgb})
    assert expected.dtype == np.uint8 and "rgb 3 channels of uint8" in repr(translate) and "depth" in repr(translate)
    forms: list[dict[str, Any]] = [
        files, {**files, "rgb": rgb}, {"rgb": Image.fromarray(rgb), "depth": Image.fromarray(depth)},
        {"rgb": rgb, "depth": depth},
    ]  # fmt: skip
    for form, found in zip(forms, translate(forms), strict=True):
        assert np.array_equal(np.asarray(found), expected), form
    joint = torch.cat([torch.from_numpy(rgb / 127.5).permute(2, 0, 1), torch.from_numpy(depth / 2047.5)[None]]).float()
    output = translate(joint - 1)
    assert np.abs((output.permute(1, 2, 0).numpy() + 1) * 127.5 - expected).max() <= 0.51
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: translate({"rgb": rgb}), "its sources are rgb; this model takes rgb, depth"),
        (lambda: translate({"rgb": rgb, "depth": depth[:20]}), "rgb is 24x24 and depth is 20x24"),
        (lambda: translate({"rgb": depth, "depth": depth}), "its source rgb: it has 1 channel; this model takes 3"),
        (lambda: translate({"rgb": joint, "depth": depth}), "give tensors as one, along the channels"),
        (lambda: translate(joint[:3]), "this model takes [N, 4, H, W]"),
        (lambda: translate(rgb), "this model takes rgb, depth"),
    ]
    for call, reason in refused:
        with pytest.raises(DataError) as raised:
            call()
        assert reason in str(raised.value)


def test_the_model_file_says_what_its_sources_are(trained: Path, p2pkit: Call) -> None:
    about = p2pkit("inspect", trained, "--json").json
    sources = [(one["name"], one["channels"], one["dtype"], one["range"]) for one in about["sources"]]
    assert sources == [("rgb", 3, "uint8", None), ("depth", 1, "uint16", [0, 4095])]
    assert about["source_channels"] == 4
    shown = p2pkit("inspect", trained).out
    assert "rgb" in shown and "depth" in shown, shown


def test_tiles_are_translated_as_the_whole(two: Path, tmp_path: Path, p2pkit: Call) -> None:
    plain = ("generator={name = 'resnet', blocks = 1, width = 4, norm = 'none'}", "train.max_steps=2")
    run = train(p2pkit, two, tmp_path / "run", *plain, "validation.every=2")
    # weights of two steps are so small that an image would be one shade
    header, weights = read_model(run / "model.safetensors")
    write_model(run / "model.safetensors", {name: 6 * value for name, value in weights.items()}, header)
    large = tmp_path / "large"
    write_scene(large, "a.png", 1, 152)
    for folder, extra in (("whole", ("--format", "tif")), ("tiles", ("--tile", "96", "--overlap", "48"))):
        outcome = p2pkit("translate", run, *named(large), "--out", tmp_path / folder, *extra)
        assert outcome.code == 0, outcome.err
    whole, tiles = (np.asarray(Image.open(tmp_path / folder / "a.tif")).astype(int) for folder in ("whole", "tiles"))
    assert whole.shape == (152, 152, 3) and whole.std() > 10
    assert np.abs(whole - tiles).max() <= 4  # where a tile ends it reflects itself, and counts little


def test_the_tables_of_the_recipe_give_the_order_of_the_channels(two: Path, tmp_path: Path, p2pkit: Call) -> None:
    text = two.read_text()
    two.write_text(text.replace("[source.rgb]\n\n", "").replace("[loader]", "[source.rgb]\n\n[loader]"))
    run = train(p2pkit, two, tmp_path / "run", "train.max_steps=2")
    translate = library.load_model(run, "cpu")
    assert [source.name for source in translate.header.sources] == ["depth", "rgb"]
    images = {"rgb": picture(SIDE, SIDE, 1), "depth": depth_map(1)}
    made = translate.to_tensor({name: image.reshape(SIDE, SIDE, -1) for name, image in images.items()}, "it")
    assert torch.allclose(made[0], torch.from_numpy(images["depth"] / 2047.5 - 1).float(), atol=1e-6)
    assert np.array_equal(np.asarray(translate(images)), to_pixels(translate.header, translate(made)))
    # without tables the data's order holds
    two.write_text(text.replace("[source.rgb]\n\n[source.depth]\nrange = [0, 4095]\n", ""))
    run = train(p2pkit, two, tmp_path / "plain", "train.max_steps=2")
    sources = library.load_model(run, "cpu").header.sources
    assert [source.name for source in sources] == ["rgb", "depth"]
    low, high = sources[1].range or (0, 0)
    held = np.stack([depth_map(seed) for seed in range(6)])
    assert (low, high) == (held.min(), held.max())


def test_a_label_map_beside_a_picture_is_encoded(two: Path, scenes: Path, tmp_path: Path, p2pkit: Call) -> None:
    for file in scenes.glob("*/depth/*.png"):
        save(file, (np.asarray(Image.open(file)) // 1024).astype(np.uint8))
    encoding = "[source.depth]\n\n[source.depth.encoding]\nname = 'one_hot'\nclasses = 4\n"
    two.write_text(two.read_text().replace("[source.depth]\nrange = [0, 4095]\n", encoding))
    run = train(p2pkit, two, tmp_path / "run", "train.max_steps=2")
    weights = load_file(run / "model.safetensors")
    assert 3 + 4 in {each.shape[1] for each in weights.values() if each.ndim == 4}
    about = json.loads(p2pkit("inspect", run, "--json").out)
    assert [one["encoding"] and one["encoding"]["name"] for one in about["sources"]] == [None, "one_hot"]
    outcome = p2pkit("translate", run, *named(scenes / "test"), "--out", tmp_path / "out")
    assert outcome.code == 0 and len(contents(tmp_path / "out")) == 2, outcome.err
    outcome = p2pkit("check", two, "--set", "encoding.name=one_hot", "--set", "encoding.classes=4")
    assert outcome.code == 2 and "each has its own: [source.NAME.encoding]" in outcome.err


@pytest.mark.parametrize("form", ["onnx", "torch_program"])
def test_an_export_has_an_input_for_each_source(form: str, trained: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = tmp_path / ("model.onnx" if form == "onnx" else "model.pt2")
    outcome = p2pkit("export", trained, "--out", file, "--format", form)
    assert outcome.code == 0 and "sources: inputs rgb, depth" in outcome.err, outcome.err
    random = torch.Generator().manual_seed(0)
    rgb, depth = (torch.rand(2, channels, 19, 27, generator=random) * 2 - 1 for channels in (3, 1))
    translate = library.load_model(trained, device="cpu", dropout=False)
    expected = translate(torch.cat([rgb, depth], dim=1))
    if form == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_inputs()] == ["rgb", "depth"]
        (made,) = session.run(None, {"depth": depth.numpy(), "rgb": rgb.numpy()})
        about = json.loads(session.get_modelmeta().custom_metadata_map["p2pkit"])
        assert [one["name"] for one in about["sources"]] == ["rgb", "depth"]
        assert about["sources"][1]["range"] == [0, 4095]
    else:
        made = torch.export.load(file).module()(rgb, depth).detach().numpy()
    assert np.abs(made - expected.numpy()).max() < 1e-4
