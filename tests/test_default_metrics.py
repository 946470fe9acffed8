"""What a run measures without further words, and by which number a model is then the best."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import Call, lines, picture, save, train, validation
from tests.trained_networks import FILES

SIZES = ("transform.load_size=36", "transform.crop_size=32", "generator.depth=4")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def alexnet(hub: Path, random_weights: Path) -> Path:
    """Weights of LPIPS's network at hand."""
    return Path(shutil.copy(random_weights / FILES["alexnet"], hub))


def test_lpips_is_measured_and_decides_where_its_weights_are(
    alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *SIZES, "validation.every=1")
    measured = [line for line in lines(run) if "validation/lpips" in line]
    assert [line["step"] for line in measured] == [1, 2, 3, 4]
    best = min(measured, key=lambda line: line["validation/lpips"])["step"]
    outcome = p2pkit("inspect", run / "best.safetensors", "--json")
    assert outcome.json["step"] == best
    assert validation(run)["computed_with"]["lpips"]["network"] == "alexnet"
    found = p2pkit("evaluate", run, "--json").json
    assert found["rows"]["model"]["lpips"] == measured[-1]["validation/lpips"] and found["ranked_by"] == "lpips"


def test_a_run_goes_on_with_the_metrics_that_it_began_with(
    alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    settings = [word for setting in SIZES for word in ("--set", setting)]
    command = ("run", recipe, "--out", tmp_path / "run", "--continue", *settings)
    assert p2pkit(*command, "--set", "train.max_steps=4").code == 0
    alexnet.unlink()
    outcome = p2pkit(*command, "--set", "train.max_steps=4")
    assert outcome.code == 2 and "alexnet" in outcome.err and "TORCH_HOME" in outcome.err
    outcome = p2pkit("evaluate", tmp_path / "run", "--json")
    assert outcome.code == 0 and "NOTICE: lpips is left out" in outcome.err
    assert set(outcome.json["rows"]["model"]) == {"mae", "psnr", "ssim"}


ALONE = """
import json
import sys
from p2pkit.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        assert not end.code
    assert not {"timm", "torchmetrics"} & sys.modules.keys(), f"{command[0]} has imported what it does not need"
"""


def test_commands_wait_for_no_import_of_timm_and_torchmetrics(alexnet: Path, recipe: Path, tmp_path: Path) -> None:
    run, image = tmp_path / "run", save(tmp_path / "image.png", picture(32, 32, 1))
    sizes = [word for size in SIZES for word in ("--set", size)]
    commands = [
        ["check", recipe, *sizes], ["run", recipe, "--out", run, *sizes], ["evaluate", run],
        ["translate", run, image, "--out", tmp_path / "out.png"],
    ]  # fmt: skip
    code = [sys.executable, "-c", ALONE, json.dumps(commands, default=str)]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = {key for key in lines(run)[-1] if key.startswith("validation/")}
    assert measured == {f"validation/{name}" for name in ("mae", "psnr", "ssim", "lpips")}
    assert (tmp_path / "out.png").is_file()


@pytest.mark.parametrize("why", ["no weights", "small images"])
def test_it_is_left_out_where_it_cannot_be_measured(
    why: str, hub: Path, random_weights: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    if why == "small images":
        shutil.copy(random_weights / FILES["alexnet"], hub)
    settings = [word for setting in (SIZES if why == "no weights" else ()) for word in ("--set", setting)]
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", *settings)
    assert outcome.code == 0 and "NOTICE: lpips is not measured" in outcome.err
    names = {key for key in lines(tmp_path / "run")[-1] if key.startswith("validation/")}
    assert names == {"validation/mae", "validation/psnr", "validation/ssim"}


def test_metrics_that_are_named_are_those(alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *SIZES, 'metrics=[{name="psnr"}]')
    assert {key for key in lines(run)[-1] if key.startswith("validation/")} == {"validation/psnr"}
    outcome = p2pkit("run", recipe, "--out", tmp_path / "none", "--set", "metrics=[]")
    assert outcome.code == 0 and "validation" not in {line["split"] for line in lines(tmp_path / "none")}


def test_other_weights_give_another_hash(alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *SIZES)
    first = p2pkit("evaluate", run, "--json").json
    weights = torch.load(alexnet, weights_only=True)
    save_file({name: value * 1.5 for name, value in weights.items()}, tmp_path / "other.safetensors")
    given = f'metrics.0.weights="{tmp_path / "other.safetensors"}"'
    second = p2pkit("evaluate", run, "--json", "--metrics", "lpips", "--set", given).json
    assert p2pkit("evaluate", run, "--json", "--metrics", "lpips").json["computed_with"] == first["computed_with"]
    assert first["computed_with"]["lpips"]["weights"] != second["computed_with"]["lpips"]["weights"]
    assert first["rows"]["model"]["lpips"] != second["rows"]["model"]["lpips"]


def test_noise_shows_as_diversity(alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    found = []
    for dropout in (0.0, 0.5):
        run = train(
            p2pkit, recipe, tmp_path / f"run{dropout}", *SIZES, f"generator.dropout={dropout}", "train.max_steps=1"
        )
        found.append(p2pkit("evaluate", run, "--json").json["diversity"])
    assert found[0] is None and found[1] > 0


def test_diversity_of_images_that_lpips_does_not_take_is_left_out(
    alexnet: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "generator.dropout=0.5", "train.max_steps=1")
    outcome = p2pkit("evaluate", run, "--json")
    assert outcome.code == 0 and outcome.json["diversity"] is None
    assert "NOTICE: the diversity of samples is not measured" in outcome.err


def test_check_knows_the_default_metrics(alexnet: Path, recipe: Path, p2pkit: Call) -> None:
    settings = [word for setting in (*SIZES, "validation.monitor=lpips") for word in ("--set", setting)]
    assert p2pkit("check", recipe, *settings).code == 0
    alexnet.unlink()
    outcome = p2pkit("check", recipe, *settings)
    assert outcome.code == 2 and "no metric is called 'lpips'" in outcome.err
