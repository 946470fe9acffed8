"""Several processes: one run folder, the weights that one process gives, and none that outlives another."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from p2pkit.run_dir import RunDir
from p2pkit.training.identity import sha256_of
from tests.conftest import Call, validation
from tests.failing import snapshot

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# with ten times that rate, rounding grows so fast that another number of threads alone changes the weights by 2e-3
WITHOUT_STATISTICS = (
    "generator.norm=instance", "discriminator.norm=instance", "generator.dropout=0.0", "optimizer.name=sgd",
    "optimizer.lr=0.001",
)  # fmt: skip


def launch(*arguments: object, processes: int = 2) -> subprocess.Popen[str]:
    """Start some processes under torchrun, whose agent ends all when one has failed."""
    words = ("--nproc_per_node", str(processes), "-m", "p2pkit", *map(str, arguments), "--device", "cpu")
    return start_program([*LAUNCH, *words], {})


def launch_alone(rank: int, port: int, *arguments: object) -> subprocess.Popen[str]:
    """Start one of two processes, without a launcher that would end it."""
    return start_alone(rank, port, "-m", "p2pkit", *arguments, "--device", "cpu")


def start_alone(rank: int, port: int, *arguments: object) -> subprocess.Popen[str]:
    """The same with any program of Python's."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return start_program([sys.executable, *map(str, arguments)], {**place, **meeting})


def start_program(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(file: Path, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def set_steps(run: Path, before: int, after: int) -> None:
    """Let a run that ends after some steps end after others, as --set does."""
    resolved = run / "recipe.toml"
    assert f"max_steps = {before}" in resolved.read_text()
    text = resolved.read_text().replace(f"max_steps = {before}", f"max_steps = {after}")
    RunDir(run).change(text, {"recipe_sha256": sha256_of(text)})


def last_step(run: Path) -> int:
    """The step of a run's last checkpoint."""
    return max(int(folder.name.removeprefix("step_")) for folder in (run / "checkpoints").glob("step_*"))


def trainers(running: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a launcher has started, by rank."""
    found = [child for child in psutil.Process(running.pid).children() if "p2pkit" in child.cmdline()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-5


@pytest.fixture
def settings() -> list[str]:
    return [part for setting in WITHOUT_STATISTICS for part in ("--set", setting)]


def test_two_processes_give_the_weights_of_one(recipe: Path, tmp_path: Path, p2pkit: Call, settings: list[str]) -> None:
    assert p2pkit("run", recipe, "--out", tmp_path / "one", *settings, "--device", "cpu").code == 0
    running = launch("run", recipe, "--out", tmp_path / "two", *settings)
    out, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert out.count("validation/mae") == 1
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_validation_is_shared_and_gives_the_numbers_of_one_process(
    processes: int, recipe: Path, pairs: Path, tmp_path: Path, settings: list[str]
) -> None:
    for index in range(2, 11):  # a number that no round of images divides
        shutil.copy(pairs / "train" / f"{index % 6}.png", pairs / "test" / f"{index}.png")
    # weights stay as they were made, whatever the gradients
    settings += ["--set", "optimizer.lr=1e-30", "--set", "validation.every=2", "--set", "loader.batch_size=4"]
    measured = []
    for count in (1, processes):
        running = launch("run", recipe, "--out", tmp_path / str(count), *settings, processes=count)
        _, errors = running.communicate(timeout=120)
        assert running.returncode == 0, errors
        written = map(json.loads, (tmp_path / str(count) / "metrics.jsonl").read_text().splitlines())
        measured.append([line for line in written if line["split"] == "validation"])
    assert [line["step"] for line in measured[0]] == [2, 4] and validation(tmp_path / "1")["images"] == 11
    assert measured[0] == measured[1]


def test_a_mistake_ends_all_processes(recipe: Path, tmp_path: Path) -> None:
    running = launch("run", recipe, "--out", tmp_path / "run", "--set", "loader.batch_size=3")
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "make it a multiple of 2" in errors


def test_bad_data_ends_all_processes_before_the_run_begins(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    file = pairs / "train" / "3.png"
    file.write_bytes(file.read_bytes()[:300])
    running = launch("run", recipe, "--out", tmp_path / "run")
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0 and not (tmp_path / "run").exists()
    assert errors.count(f"{file}: the image cannot be read") == 1


def test_an_interruption_stops_all_processes_at_one_step(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    out = tmp_path / "run"
    running = launch("run", recipe, "--out", out, "--set", "train.max_steps=100000")
    wait_for(out / "metrics.jsonl", running)
    # a cluster signals every process, and torchrun's agent passes on what it gets
    for process in [*psutil.Process(running.pid).children(), psutil.Process(running.pid)]:
        process.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    (step,) = {int(number) for number in re.findall(r"interrupted at step (\d+)", errors)}
    assert (out / "checkpoints" / f"step_{step:08}").is_dir()
    set_steps(out, 100000, step + 2)
    resumed = p2pkit("run", "--resume", out, "--device", "cpu")
    assert resumed.code == 0 and f"resuming from step {step}" in resumed.err


def test_the_mistake_of_one_process_ends_the_other(recipe: Path, tmp_path: Path, port: int) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(recipe.read_text().replace(str(tmp_path / "pairs"), str(tmp_path / "nowhere")))
    running = [launch_alone(rank, port, "run", file, "--out", "run") for rank, file in enumerate((recipe, elsewhere))]
    printed = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [2, 2]
    host = platform.node()
    assert f"[process 1 of 2 on {host}] Error: {tmp_path / 'nowhere'}: there is no such folder" in printed[1]
    assert f"[process 0 of 2 on {host}] Error: process 1 ({host}) has ended: {tmp_path / 'nowhere'}" in printed[0]
    assert "Traceback" not in printed[0] + printed[1]


@pytest.mark.parametrize("lasting", [False, True])
def test_an_error_that_passes_on_one_process_ends_both_or_none(
    lasting: bool, recipe: Path, tmp_path: Path, port: int, p2pkit: Call
) -> None:
    run = tmp_path / "run"
    assert p2pkit("run", recipe, "--out", run, "--device", "cpu").code == 0
    before = snapshot(run)
    failing = f"""
import sys
from tests.failing import failing_reads
from p2pkit.cli.main import main
with failing_reads(1, {10**9 if lasting else 1}, 5, lambda path: path.endswith("networks.safetensors")):
    main(sys.argv[1:])
"""
    arguments = ("run", "--resume", run, "--device", "cpu", "--set", "train.max_steps=6")
    both = [start_alone(0, port, "-m", "p2pkit", *arguments), start_alone(1, port, "-c", failing, *arguments)]
    printed = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == ([2, 2] if lasting else [0, 0]), printed
    if lasting:
        assert "Input/output error; nothing has been changed" in printed[1] and "process 1" in printed[0]
        assert snapshot(run) == before
    else:
        assert last_step(run) == 6 and "processes: 1 -> 2" in printed[0] and not list(run.rglob("damaged*"))


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_the_other(killed: int, recipe: Path, tmp_path: Path, port: int, p2pkit: Call) -> None:
    out = tmp_path / "run"
    settings = ("--set", "train.max_steps=100000", "--out", out)
    running = [launch_alone(rank, port, "run", recipe, *settings) for rank in (0, 1)]
    wait_for(out / "model.safetensors", running[killed])
    running[killed].kill()
    survivor = running[1 - killed]
    _, printed = survivor.communicate(timeout=60)
    assert survivor.returncode == 75
    assert f"[process {1 - killed} of 2 on {platform.node()}] another process has ended or does not answer (" in printed
    assert f"p2pkit run --device cpu --resume {out}" in printed
    assert "Traceback" not in printed
    step = last_step(out)
    set_steps(out, 100000, step + 1)
    assert p2pkit("run", "--resume", out, "--device", "cpu").code == 0


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_launcher_ends_the_others_and_any_number_resumes(processes: int, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("--set", "train.max_steps=100000", "--set", "loader.batch_size=4")
    running = launch("run", recipe, "--out", out, *settings)
    wait_for(out / "model.safetensors", running)
    trainers(running)[1].kill()
    _, printed = running.communicate(timeout=60)
    assert running.returncode != 0 and "exitcode  : -9 " in printed
    step = last_step(out)
    set_steps(out, 100000, step + 2)
    resumed = launch("run", "--resume", out, processes=processes)
    _, printed = resumed.communicate(timeout=120)
    assert resumed.returncode == 0 and f"resuming from step {step}" in printed, printed
    assert last_step(out) == step + 2


@pytest.mark.slow
def test_a_process_that_does_not_answer_ends_the_other(recipe: Path, tmp_path: Path, port: int) -> None:
    out = tmp_path / "run"
    settings = ("--set", "train.max_steps=100000", "--set", "train.collective_timeout=5s", "--out", out)
    running = [launch_alone(rank, port, "run", recipe, *settings) for rank in (0, 1)]
    wait_for(out / "model.safetensors", running[0])
    running[1].send_signal(signal.SIGSTOP)
    _, printed = running[0].communicate(timeout=60)
    running[1].kill()
    assert running[0].returncode == 75
    assert "another process has ended or does not answer (Timed out waiting 5000ms" in printed
    running[1].communicate(timeout=10)


def test_processes_that_do_not_come_are_waited_for_as_long_as_the_recipe_says(
    recipe: Path, tmp_path: Path, port: int
) -> None:
    running = launch_alone(0, port, "run", recipe, "--set", "train.collective_timeout=2s", "--out", tmp_path / "run")
    _, printed = running.communicate(timeout=60)
    assert running.returncode == 75
    assert f"the processes have not found each other at localhost:{port}" in printed
    assert "Traceback" not in printed


def test_a_port_that_is_taken_is_reported(recipe: Path, tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        running = launch_alone(0, taken.getsockname()[1], "run", recipe, "--out", tmp_path / "run")
        _, printed = running.communicate(timeout=60)
    assert running.returncode == 75
    assert "[process 0 of 2" in printed and "the processes have not found each other at localhost:" in printed
    assert "Traceback" not in printed


def test_a_run_changes_its_number_of_processes(recipe: Path, tmp_path: Path, p2pkit: Call, settings: list[str]) -> None:
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    for out, steps in (alone, 6), (moved, 2):
        limit = ("--set", f"train.max_steps={steps}", "--device", "cpu")
        assert p2pkit("run", recipe, "--out", out, *settings, *limit).code == 0
    set_steps(moved, 2, 4)
    on_two = launch("run", "--resume", moved)
    _, errors = on_two.communicate(timeout=120)
    assert on_two.returncode == 0 and "resuming from step 2" in errors, errors
    set_steps(moved, 4, 6)
    assert p2pkit("run", "--resume", moved, "--device", "cpu").code == 0
    assert_same_weights(alone, moved)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_twenty_steps_give_the_weights_of_one_process(
    processes: int, recipe: Path, tmp_path: Path, p2pkit: Call, settings: list[str]
) -> None:
    settings += ["--set", "loader.batch_size=4", "--set", "train.max_steps=20"]
    assert p2pkit("run", recipe, "--out", tmp_path / "one", *settings, "--device", "cpu").code == 0
    running = launch("run", recipe, "--out", tmp_path / "many", *settings, processes=processes)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert_same_weights(tmp_path / "one", tmp_path / "many")
