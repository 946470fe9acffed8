"""What somebody writes first who knows PyTorch and has not read p2pkit's pages: it works, or `check` says why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from p2pkit.testing import check_component
from tests.conftest import REPOSITORY, Call, Outcome, lines, steps_of_checkpoints
from tests.test_many_processes import launch, set_steps

SKETCHBOOK = ("--plugins-dir", REPOSITORY / "tests" / "data" / "sketchbook")


def called(p2pkit: Call, command: str, recipe: Path, *settings: str, out: Path | None = None) -> Outcome:
    """``command`` on a recipe with some settings (K=V); no traceback, whatever happens."""
    where = () if out is None else ("--out", out, "--device", "cpu")
    outcome = p2pkit(*SKETCHBOOK, command, recipe, *where, *(part for each in settings for part in ("--set", each)))
    assert "Traceback" not in outcome.err, outcome.err
    return outcome


def said(outcome: Outcome) -> str:
    """The one sentence with which a command has refused."""
    (line,) = outcome.said
    assert outcome.code == 2 and line.startswith("Error: "), outcome.err
    return line


def test_losses_of_every_form_train(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    names = ("no_init", "smooth_l1", "edges", "generator_only", "discriminator_only", "lpips_like")
    losses = ", ".join(f'{{name = "{name}"}}' for name in ("gan", *names))
    checked = called(p2pkit, "check", recipe, f"losses=[{losses}]")
    assert checked.code == 0, checked.err
    ran = called(p2pkit, "run", recipe, f"losses=[{losses}]", "losses.2.beta=0.5", out=tmp_path / "run")
    assert ran.code == 0, ran.err
    first = lines(tmp_path / "run")[0]
    assert {f"generator/{name}" for name in names} - first.keys() == {"generator/discriminator_only"}
    assert "discriminator/discriminator_only" in first and "discriminator/edges" not in first


def test_a_component_that_cannot_be_made(p2pkit: Call, recipe: Path) -> None:
    refused = said(called(p2pkit, "check", recipe, 'losses=[{name = "unmade"}]'))
    assert (
        "loss 'unmade' of sketchbook" in refused
        and "cannot be made with layer = 'relu3_1': KeyError: 'relu3_1'" in refused
    )
    assert called(p2pkit, "check", recipe, 'losses=[{name = "gan"}, {name = "unmade", layer = "relu2_1"}]').code == 0


def test_what_would_train_nothing_is_refused(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    detached = said(called(p2pkit, "check", recipe, 'losses=[{name = "gan"}, {name = "detached"}]'))
    assert "loss 'detached' of sketchbook 0.1 gives the generator a number without a gradient" in detached


def test_a_method_that_never_updates_is_refused(p2pkit: Call, without: Path, tmp_path: Path) -> None:
    refused = said(called(p2pkit, "run", without, "method.name=idle", out=tmp_path / "run"))
    assert "method 'idle' of sketchbook 0.1: its step trains no network" in refused and not (tmp_path / "run").exists()


def test_lazy_layers_are_refused(p2pkit: Call, recipe: Path) -> None:
    assert "discriminator has lazy layers" in said(called(p2pkit, "check", recipe, "discriminator.name=lazy"))


def test_a_loss_of_pytorch_shows_what_a_recipe_may_set(p2pkit: Call) -> None:
    (smooth,) = p2pkit(*SKETCHBOOK, "components", "smooth_l1", "--json").json
    assert [(each["name"], each["default"]) for each in smooth["parameters"]] == [
        ("weight", 1.0), ("reduction", "mean"), ("beta", 1.0),
    ]  # fmt: skip
    assert smooth["parameters"][2]["help"].startswith("Specifies the threshold at which to change between L1 and L2")
    _, power = p2pkit(*SKETCHBOOK, "components", "generator_only", "--json").json[0]["parameters"]
    assert (power["type"], power["default"]) == ("whole number", 1)
    assert power["help"] == "Of what is different, at least one."
    (spread,) = p2pkit(*SKETCHBOOK, "components", "spread", "--json").json
    assert [(each["name"], each["type"]) for each in spread["parameters"]] == [("scale", "float")]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_loss_that_gives_each_image_a_number(
    batch_size: int, command: str, p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    settings = ('losses=[{name = "each_image"}]', f"loader.batch_size={batch_size}")
    refused = said(called(p2pkit, command, recipe, *settings, out=tmp_path / "run" if command == "run" else None))
    assert f"loss 'each_image' of sketchbook 0.1 gives a tensor [{batch_size}] for a batch of {batch_size}" in refused
    assert refused.endswith("expected a scalar: take its mean") and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "edges_themselves",
            "'edges_themselves' of sketchbook 0.1 is a function of (output, target) where what makes ",
        ),
        ("edges_themselves", 'write register("edges_themselves", lambda: edges)'),
        ("made_already", 'where what makes one is expected; write register("made_already", lambda: L1Loss(...))'),
    ],
)
def test_a_loss_in_place_of_what_makes_it(name: str, reason: str, p2pkit: Call, recipe: Path) -> None:
    assert reason in said(called(p2pkit, "check", recipe, f'losses=[{{name = "{name}"}}]'))


def test_metrics_are_taken_image_by_image_and_over_the_set(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    names = ("mae", "peak_ratio", "similarity", "largest", "stored", "stored", "spread")
    metrics = "metrics=[" + ", ".join(f'{{name = "{name}"}}' for name in names) + "]"
    settings = (metrics, "transform.load_size=24", "transform.crop_size=24", "transform.flip=false")
    ran = called(p2pkit, "run", recipe, *settings, out=tmp_path / "run")
    assert ran.code == 0, ran.err
    found = {key.partition("/")[2]: value for key, value in lines(tmp_path / "run")[-1].items() if "/" in key}
    assert found.keys() == {
        "mae", "peak_ratio", "similarity", "largest", "stored", "stored_2", "output_spread", "target_spread",
    }  # fmt: skip
    assert found["largest"] == pytest.approx(255 * found["stored"])
    targets = [np.asarray(Image.open(recipe.parent / f"pairs/test/{n}.png"))[:, 24:] / 255 for n in range(2)]
    assert found["stored"] == pytest.approx(np.mean([target.max() for target in targets]), abs=1e-6)
    assert found["target_spread"] == pytest.approx(np.std([target.mean() for target in targets], ddof=0), abs=1e-6)


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (["undirected"], "metric 'undirected' of sketchbook 0.1: compute() gives 'much' as 'undirected'; expected a"),
        (["adds"], "metric 'adds' of sketchbook 0.1 has no update; expected torchmetrics' interface"),
        (["peak_ratio", "largest", "spread", "spread"], "gives 'output_spread', as another metric does"),
    ],
)
def test_metrics_that_are_refused(metrics: list[str], reason: str, p2pkit: Call, recipe: Path) -> None:
    listed = ", ".join(f'{{name = "{name}"}}' for name in metrics)
    assert reason in said(called(p2pkit, "check", recipe, f"metrics=[{listed}]"))


def test_a_metric_without_a_direction_chooses_no_model(p2pkit: Call, recipe: Path) -> None:
    listed = 'metrics=[{name = "largest"}, {name = "mae"}]'
    assert called(p2pkit, "check", recipe, listed).code == 0
    refused = said(called(p2pkit, "check", recipe, listed, "validation.every=2"))
    assert "metric 'largest' of sketchbook 0.1 does not say whether higher is better" in refused


def test_a_discriminator_that_augments_in_training(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    checked = called(p2pkit, "check", recipe, "discriminator.name=augmenting", "discriminator.width=4")
    assert checked.code == 0 and "receptive field: 8 pixels" in checked.out, checked.err
    assert called(p2pkit, "run", recipe, "discriminator.name=augmenting", out=tmp_path / "run").code == 0
    blind = called(p2pkit, "check", recipe, "discriminator.name=blind")
    assert blind.code == 0 and "receptive field: all of the image, or not measurable" in blind.out, blind.err


@pytest.mark.parametrize(
    ("kind", "name"),
    [("losses", "smooth_l1"), ("losses", "lpips_like"), ("discriminators", "augmenting"), ("methods", "regression"),
     ("methods", "pooled"), ("methods", "module")],
)  # fmt: skip
def test_they_pass_the_contract_tests(kind: str, name: str, p2pkit: Call) -> None:
    p2pkit(*SKETCHBOOK, "plugins")
    check_component(kind, name)


@pytest.fixture
def without(recipe: Path) -> Path:
    """The recipe without its [discriminator]."""
    recipe.write_text(recipe.read_text().replace('[discriminator]\nname = "patchgan_16"\nwidth = 4\n', ""))
    return recipe


@pytest.mark.parametrize("setting", ["method.name=bare", 'metrics=[{name = "mse"}]'])
def test_a_method_with_a_loss_of_its_own_and_a_metric_that_takes_views(
    setting: str, p2pkit: Call, recipe: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "bare" in setting:
        request.getfixturevalue("without")
    for command, out in (("check", None), ("run", tmp_path / "run")):
        outcome = called(p2pkit, command, recipe, setting, out=out)
        assert outcome.code == 0, outcome.err
    assert "generator/l1" in lines(tmp_path / "run")[0] and lines(tmp_path / "run")[-1]["split"] == "validation"


def test_a_method_without_a_discriminator(p2pkit: Call, without: Path, tmp_path: Path) -> None:
    checked = called(p2pkit, "check", without, "method.name=regression")
    assert checked.code == 0 and "discriminator" not in checked.out and "receptive field" not in checked.out
    shown = called(p2pkit, "show", without, "method.name=regression")
    assert "[discriminator]" not in shown.out and shown.out.count("[[losses]]") == 1 and 'name = "l1"' in shown.out
    whole = tmp_path / "whole"
    assert called(p2pkit, "run", without, "method.name=regression", out=whole).code == 0
    assert {"generator/l1", "generator/lr"} <= lines(whole)[0].keys()
    assert not any(key.startswith("discriminator") for line in lines(whole) for key in line)
    (folder,) = (whole / "checkpoints").glob("*4")
    assert {name.partition("|")[0] for name in load_file(folder / "networks.safetensors")} == {"generator"}
    set_steps(whole, 4, 6)
    assert p2pkit(*SKETCHBOOK, "run", "--resume", whole, "--device", "cpu").code == 0
    assert steps_of_checkpoints(whole)[-1] == 6


def test_a_discriminator_that_nobody_would_train(p2pkit: Call, recipe: Path) -> None:
    refused = said(called(p2pkit, "check", recipe, "method.name=regression"))
    assert (
        "small.toml: discriminator: method 'regression' of sketchbook 0.1 trains without a discriminator; " in refused
    )


@pytest.mark.parametrize("loss", ["gan", "r1", "discriminator_only"])
def test_a_loss_that_asks_for_a_discriminator_there_is_not(loss: str, p2pkit: Call, without: Path) -> None:
    losses = f'losses=[{{name = "l1"}}, {{name = "{loss}"}}]'
    refused = said(called(p2pkit, "check", without, "method.name=regression", losses))
    assert f"loss '{loss}' of " in refused and "the method trains without a discriminator" in refused


def test_a_method_that_gives_terms_of_the_whole_batch_cannot_accumulate(p2pkit: Call, without: Path) -> None:
    refused = p2pkit(*SKETCHBOOK, "run", without, "--set", "method.name=regression", "--set", "train.accumulate=2")
    assert "train.accumulate = 2: method 'regression' of sketchbook 0.1 calls update() with terms of the" in refused.err


def test_a_state_that_no_checkpoint_takes_is_refused_before_the_run(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    refused = said(called(p2pkit, "run", recipe, "method.name=unsaved", out=tmp_path / "run"))
    assert "method 'unsaved' of sketchbook 0.1: state_dict()['pool'] is a set; a checkpoint takes tensors" in refused
    assert not (tmp_path / "run").exists()


def networks(run: Path) -> dict[str, bytes]:
    """The last checkpoint's files, but for the one that says how long the run took."""
    folder = run / "checkpoints" / f"step_{steps_of_checkpoints(run)[-1]:08}"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "progress.json"}


def states(run: Path) -> object:
    """What the last checkpoint says of states in JSON."""
    folder = run / "checkpoints" / f"step_{steps_of_checkpoints(run)[-1]:08}"
    return json.loads((folder / "progress.json").read_text())["states"]


POOLED = ("method.name=pooled", "train.max_steps=24", "train.checkpoint_every=3", "train.sample_every=24")


def test_an_image_pool_resumes_after_a_kill_to_the_bytes_of_a_run_left_alone(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert called(p2pkit, "run", recipe, *POOLED, out=alone).code == 0
    program = [sys.executable, "-m", "p2pkit", *map(str, SKETCHBOOK), "run", str(recipe), "--out", str(killed)]
    settings = [part for setting in POOLED for part in ("--set", setting)]
    running = subprocess.Popen([*program, "--device", "cpu", *settings], stderr=subprocess.DEVNULL)
    while not list(killed.glob("checkpoints/step_*[69]")):
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert 0 < steps_of_checkpoints(killed)[-1] < 24
    assert p2pkit(*SKETCHBOOK, "run", "--resume", killed, "--device", "cpu").code == 0
    assert networks(killed) == networks(alone) and states(killed) == states(alone)
    assert len(networks(alone)) == 3  # the pool's tensors among them


def test_each_of_two_processes_resumes_with_its_own_pool(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = ("method.name=pooled", "train.max_steps=12", "train.checkpoint_every=6", 'metrics=[{name = "psnr"}]')
    limits = [part for each in settings for part in ("--set", each)]
    running = launch(*SKETCHBOOK, "run", recipe, "--out", whole, *limits)
    assert running.wait(120) == 0, running.communicate()
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step_00000012")
    resumed = launch(*SKETCHBOOK, "run", "--resume", cut)
    assert resumed.wait(120) == 0, resumed.communicate()
    assert networks(cut).keys() == networks(whole).keys() and len(networks(cut)) == 4
    assert networks(cut) == networks(whole) and states(cut) == states(whole)
    alone = p2pkit(*SKETCHBOOK, "run", "--resume", whole, "--device", "cpu")
    assert "method had a state of its own on each of 2 processes; this run has 1" in alone.err


def test_a_method_that_is_a_torch_module_keeps_what_is_not_in_its_networks(
    p2pkit: Call, without: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert called(p2pkit, "run", without, "method.name=module", out=run).code == 0
    (file,) = (run / "checkpoints" / "step_00000004").glob("state_*")
    assert [value.tolist() for value in load_file(file).values()] == [4.0]
    set_steps(run, 4, 5)
    assert p2pkit(*SKETCHBOOK, "run", "--resume", run, "--device", "cpu").code == 0
    assert torch.stack([*load_file(next((run / "checkpoints/step_00000005").glob("state_*"))).values()]).item() == 5
