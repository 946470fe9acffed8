"""What users get wrong and what machines do to them: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from p2pkit.run_dir import RunDir
from tests.conftest import Call, Outcome, picture, save, train


def clear(outcome: Outcome, *said: object) -> None:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    for words in said:
        assert str(words) in outcome.err


def an_empty_folder(root: Path) -> object:
    for file in (root / "train").iterdir():
        file.unlink()
    return root / "train"


def a_missing_folder(root: Path) -> object:
    root.rename(root.with_name("elsewhere"))
    return root


def a_truncated_image(root: Path) -> object:
    file = root / "train" / "3.jpg"
    Image.fromarray(picture(24, 48, 0)).resize((480, 240)).save(file)
    file.write_bytes(file.read_bytes()[:3000])
    return file


def a_text_file(root: Path) -> object:
    (root / "train" / "3.png").write_text("not an image")
    return root / "train" / "3.png"


def no_bytes(root: Path) -> object:
    (root / "train" / "3.png").write_bytes(b"")
    return root / "train" / "3.png"


def an_odd_width(root: Path) -> object:
    save(root / "train" / "3.png", picture(24, 47, 0))
    return "47 pixels wide"


def other_channels(root: Path) -> object:
    save(root / "train" / "3.png", picture(24, 48, 0, channels=1))
    return "its source has 1 channel"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "spoil",
    [an_empty_folder, a_missing_folder, a_truncated_image, a_text_file, no_bytes, an_odd_width, other_channels],
    ids=lambda spoil: spoil.__name__,
)
def test_bad_data(
    spoil: Callable[[Path], object], workers: int, pairs: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    named = spoil(pairs)
    run = tmp_path / "run"
    clear(p2pkit("run", recipe, "--out", run, "--set", f"loader.workers={workers}"), named)
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture
def folders(tmp_path: Path, recipe: Path) -> Path:
    root = tmp_path / "folders"
    for side in ("source", "target"):
        for index in range(3):
            save(root / side / f"{index}.png", picture(24, 24, index))
    old = recipe.read_text()
    data = f'[data]\nname = "paired_folders"\nroot = "{root}"\n'
    recipe.write_text(old[: old.index("[data]")] + data + old[old.index("[loader]") :])
    return root


def test_a_pair_whose_partner_is_missing(folders: Path, recipe: Path, p2pkit: Call) -> None:
    (folders / "target" / "1.png").unlink()
    save(folders / "target" / "9.png", picture(24, 24, 9))
    clear(
        p2pkit("check", recipe),
        f"{folders}/source/1.png has no partner in {folders}/target",
        f"{folders}/target/9.png has no partner in {folders}/source",
    )


def test_two_images_of_one_pair_that_differ_in_size(folders: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    save(folders / "target" / "1.png", picture(24, 30, 1))
    outcome = p2pkit("run", recipe, "--set", "transform.keep_aspect=true", "--out", tmp_path / "run")
    clear(outcome, "source/1.png: source and target differ in size (height x width): 24x24 and 24x30")


def test_one_name_twice_on_one_side(folders: Path, recipe: Path, p2pkit: Call) -> None:
    save(folders / "target" / "1.jpg", picture(24, 24, 1))
    clear(p2pkit("check", recipe), "1.jpg", "1.png", "two images of one name")


def test_one_side_missing(folders: Path, recipe: Path, p2pkit: Call) -> None:
    (folders / "target").rename(folders / "other")
    clear(p2pkit("check", recipe), folders / "target")


def test_images_of_several_sizes_in_a_batch(folders: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    for side in ("source", "target"):
        save(folders / side / "1.png", picture(32, 24, 1))
    recipe.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16\n", ""))
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "loader.batch_size=3")
    clear(outcome, "differs in size from", "transform.load_size")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("transform.crop_size=64", "smaller than transform.crop_size"),
        ("loader.batch_size=9", "the data set holds 6 pairs"),
        ("transform.crop_size=12", "multiples of 8"),
        ("run.trackers=3", "run.trackers"),
        ("run.name=a/b", "run.name"),
        ("run.name=..", "run.name"),
        ("losses.0.weight=nan", "losses.0.weight"),
        ("optimizer.lr=inf", "optimizer.lr"),
        ("optimizer.name=lamb", "optimizer 'lamb' of p2pkit 0.1.0 cannot be used here"),
        ("generator.dropout=nan", "generator.dropout"),
    ],
)
def test_settings_that_cannot_work(setting: str, said: str, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    clear(p2pkit("check", recipe, "--set", setting), said)
    clear(p2pkit("run", recipe, "--out", tmp_path / "run", "--set", setting), said)
    assert not (tmp_path / "run").exists()


def test_data_check_reads_every_pair_and_reports_all(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    whole = p2pkit("data", "check", recipe)
    assert whole.code == 0 and "all 8 pairs can be used" in whole.out
    (pairs / "train" / "3.png").write_bytes(b"")
    save(pairs / "train" / "4.png", picture(24, 48, 0, channels=1))
    save(pairs / "test" / "1.png", picture(24, 47, 0))
    clear(p2pkit("data", "check", recipe), "3 of 8 pairs", "train/3.png", "train/4.png", "test/1.png")


def test_data_check_knows_sizes_that_training_cannot_take(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    recipe.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16\n", ""))
    save(pairs / "train" / "3.png", picture(20, 48, 0))
    save(pairs / "train" / "4.png", picture(32, 48, 0))
    clear(p2pkit("data", "check", recipe), "train/3.png: 20x24", "train/4.png: it differs in size from train/0.png")


def test_splits_of_different_channels(pairs: Path, recipe: Path, p2pkit: Call) -> None:
    for file in (pairs / "test").iterdir():
        save(file, picture(24, 48, 0, channels=1))
    clear(p2pkit("check", recipe), "test/0.png: its source has 1 channel")


def test_test_pairs_are_never_trained_on(folders: Path, recipe: Path, p2pkit: Call) -> None:
    for side in ("source", "target"):
        save(folders / side / "val" / "9.png", picture(24, 24, 9))
    clear(p2pkit("check", recipe), "it has a folder val, but no folder train")


def test_out_of_memory_says_what_to_lower(
    recipe: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("p2pkit.training.trainer.Trainer._train_step", fail)
    clear(p2pkit("run", recipe, "--out", tmp_path / "run"), "20.00 GiB", "loader.batch_size", "transform.crop_size")


def test_an_out_folder_in_use_is_left_alone(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    clear(p2pkit("run", recipe, "--out", tmp_path / "out"), tmp_path / "out", "choose another folder")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_run_that_never_got_to_a_checkpoint_may_begin_again(
    recipe: Path, pairs: Path, p2pkit: Call, tmp_path: Path
) -> None:
    whole = {file: file.read_bytes() for file in (pairs / "train").iterdir()}
    for file in list(whole)[1:]:
        file.write_bytes(b"")
    settings = ("--set", "train.max_steps=1")
    first = sorted(whole)[0]
    first.write_bytes(whole[first])
    clear(p2pkit("run", recipe, "--out", tmp_path / "run", *settings), "not an image")
    for file, content in whole.items():
        file.write_bytes(content)
    assert p2pkit("run", recipe, "--out", tmp_path / "run", *settings).code == 0
    clear(p2pkit("run", recipe, "--out", tmp_path / "run", *settings), f"p2pkit run --resume {tmp_path / 'run'}")


def test_two_runs_never_share_a_folder(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run).code == 0
    with RunDir(run).held():
        clear(p2pkit("run", "--resume", run), f"{run}: process {os.getpid()} on ", "is running in it")
    assert p2pkit("run", "--resume", run).code == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("generator.width=99999999999999999999", "it has a whole number of more than 64 bits"),
        ("generator.width=999999999999", "generator 'unet' of p2pkit"),
        ("data.size=100000000", "memory"),
    ],
)
def test_sizes_beyond_reason(setting: str, said: str, tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "a.toml").write_text('[data]\nname = "procedural_facades"\n')
    clear(p2pkit("check", tmp_path / "a.toml", "--set", setting), said)


def test_a_full_standard_output_is_no_fault_of_ours() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "p2pkit", "schema"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    clear(Outcome(done.returncode, "", done.stderr), "No space left")


def test_max_time_is_called_what_was_typed(recipe: Path, p2pkit: Call) -> None:
    clear(p2pkit("run", recipe, "--max-time", "soon"), "--max-time", "found 'soon'", '"5m"')


def test_resuming_what_is_no_run(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    clear(p2pkit("run", "--resume", tmp_path / "nowhere"), tmp_path / "nowhere", "give a run folder")
    clear(p2pkit("run", recipe, "--resume", tmp_path), "leave out RECIPE")


def test_resuming_with_other_data(recipe: Path, pairs: Path, p2pkit: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run).code == 0
    save(pairs / "train" / "new.png", picture(24, 48, 0))
    clear(p2pkit("run", "--resume", run), "fingerprint")


@pytest.mark.parametrize(("version", "said"), [(1, "an earlier p2pkit"), (99, "a later p2pkit")])
def test_a_checkpoint_of_another_version_is_refused(
    version: int, said: str, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=2")
    file = run / "checkpoints/step_00000002/progress.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": version}))
    clear(p2pkit("run", "--resume", run), file.parent, said)


@pytest.mark.parametrize("name", ["networks.safetensors", "optimizers.safetensors", "progress.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    name: str, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run).code == 0
    whole = (run / "model.safetensors").read_bytes()
    file = run / "checkpoints" / "step_00000004" / name
    content = bytearray(file.read_bytes())
    if name == "progress.json":  # still JSON, and plausible
        content = content.replace(b'"seconds": ', b'"seconds": 9')
    else:
        content[len(content) * 3 // 4] ^= 1
    file.write_bytes(content)
    resumed = p2pkit("run", "--resume", run)
    assert resumed.code == 0
    assert f"NOTICE: {file.parent}: this checkpoint is damaged" in resumed.err and "resuming from step 2" in resumed.err
    assert (run / "model.safetensors").read_bytes() == whole
    for folder in (run / "checkpoints").iterdir():
        (folder / name).write_bytes(b"")
    clear(p2pkit("run", "--resume", run), "all checkpoints are damaged", "step_00000002", "step_00000004")


def test_cuda_where_there_is_none(recipe: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    clear(p2pkit("run", recipe, "--out", tmp_path / "run", "--device", "cuda"), "no CUDA device")


def test_fp16_where_there_is_no_gpu(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    settings = ("--set", "train.precision=fp16", "--device", "cpu")
    clear(p2pkit("run", recipe, "--out", tmp_path / "run", *settings), '"fp16" needs a GPU')


def limited_to(size: int) -> Callable[[], None]:
    """Files cannot grow beyond ``size`` bytes, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_fills_up_leaves_earlier_checkpoints_whole(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run, "--set", "train.max_steps=2").code == 0
    model = (run / "model.safetensors").read_bytes()
    full = subprocess.run(
        [sys.executable, "-m", "p2pkit", "run", "--resume", run, "--set", "train.max_steps=6"],
        preexec_fn=limited_to(6000), capture_output=True, text=True,
    )  # fmt: skip
    clear(Outcome(full.returncode, full.stdout, full.stderr), "cannot write", run)
    assert (run / "model.safetensors").read_bytes() == model
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["step_00000002"]
    assert p2pkit("run", "--resume", run).code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    clear(p2pkit("run", recipe, "--out", tmp_path / "closed" / "run"), "closed", "you may write to")


def test_a_run_folder_below_a_file(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "file").write_text("")
    clear(p2pkit("run", recipe, "--out", tmp_path / "file" / "run"), tmp_path / "file")
