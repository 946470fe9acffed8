"""The commands of docs/distributed.md on two hosts, which are network namespaces; one of them gets lost."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import Call
from tests.hosts import NAMES, Hosts, Running, two_hosts, write_program
from tests.test_documentation import blocks
from tests.test_many_processes import WITHOUT_STATISTICS, set_steps

STEPS = "max_steps = 4"
ENDLESS = "max_steps = 100000"
SHORT = 'collective_timeout = "15s"'
# stand-ins for SLURM's programs: srun starts a task on each host, and ends all when one fails
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 99
shift
export SLURM_NNODES=2 SLURM_GPUS_ON_NODE=1
for number in 0 1; do
  SLURM_NODEID=$number node-$((number + 1)) "$@" & tasks[$number]=$!
done
echo "${tasks[@]}" >tasks
highest=0
for task in "${tasks[@]}"; do
  wait -n; code=$?
  [ $code -gt $highest ] && highest=$code
  [ $code -gt 0 ] && kill "${tasks[@]}"
done
exit $highest
"""
SCONTROL = """#!/bin/sh
case $1 in
  show) printf 'node-1\\nnode-2\\n' ;;
  requeue) echo "requeue $2" >>requeued ;;
esac
"""


@pytest.fixture
def hosts(tmp_path: Path, recipe: Path) -> Iterator[Hosts]:
    recipe.rename(tmp_path / "recipe.toml")
    with two_hosts(tmp_path) as both:
        yield both


def commands(word: str) -> list[str]:
    """The commands of the document that contain a word."""
    return [command for command in blocks("docs/distributed.md", "sh") if word in command]


def change(text: str, into: str, *files: Path) -> None:
    for file in files:
        before = file.read_text()
        assert text in before
        file.write_text(before.replace(text, into))


def last_checkpoint(run: Path) -> int:
    return max(int(folder.name.removeprefix("step_")) for folder in (run / "checkpoints").glob("step_*"))


def submit(hosts: Hosts) -> Running:
    """Run the SLURM script of the document, as sbatch would."""
    write_program(hosts.folder / "bin" / "srun", SRUN)
    write_program(hosts.folder / "bin" / "scontrol", SCONTROL)
    (script,) = blocks("docs/distributed.md", "bash")
    write_program(hosts.folder / "job", script)
    (hosts.folder / "requeued").unlink(missing_ok=True)
    return hosts.start("SLURM_JOB_ID=31 SLURM_JOB_NODELIST='node-[1-2]' ./job")


def requeued(hosts: Hosts) -> bool:
    return (hosts.folder / "requeued").exists()


def by_torchrun(hosts: Hosts) -> tuple[str, str]:
    first, second = commands("--node-rank")
    return first, second


def by_accelerate(hosts: Hosts) -> tuple[str, str]:
    (settings,) = blocks("docs/distributed.md", "yaml")
    (hosts.folder / "two_nodes.yaml").write_text(settings)
    (command,) = commands("two_nodes.yaml")
    assert "--machine_rank 0" in command
    return command, command.replace("--machine_rank 0", "--machine_rank 1")


@pytest.mark.parametrize("launched", [by_torchrun, pytest.param(by_accelerate, marks=pytest.mark.slow)])
def test_two_machines_give_the_weights_of_one(launched, hosts: Hosts, p2pkit: Call) -> None:
    settings = [part for setting in WITHOUT_STATISTICS for part in ("--set", setting)]
    alone, both = hosts.folder / "alone", hosts.folder / "runs" / "two"
    assert p2pkit("run", hosts.folder / "recipe.toml", "--out", alone, *settings, "--device", "cpu").code == 0
    extra = " ".join(settings)
    running = [hosts.start(f"{line.strip()} {extra}", host) for host, line in enumerate(launched(hosts))]
    for one in running:
        assert one.wait(120) == 0, one.output
    ours, theirs = (load_file(run / "model.safetensors") for run in (alone, both))
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-5


def test_a_job_of_slurm_is_requeued_and_goes_on(hosts: Hosts) -> None:
    recipe, run = hosts.folder / "recipe.toml", hosts.folder / "runs" / "big"
    change(STEPS, ENDLESS, recipe)
    job = submit(hosts)
    job.wait_until((run / "metrics.jsonl").exists)
    for task in (hosts.folder / "tasks").read_text().split():
        os.kill(int(task), signal.SIGUSR1)
    assert job.wait(60) != 0, job.output
    assert (hosts.folder / "requeued").read_text() == "requeue 31\n"
    step = last_checkpoint(run)
    assert f"interrupted at step {step}" in job.output
    change(ENDLESS, f"max_steps = {step + 2}", recipe)
    set_steps(run, 100000, step + 2)
    again = submit(hosts)
    assert again.wait(120) == 0, again.output
    assert f"resuming from step {step}" in again.output
    assert not requeued(hosts)


@pytest.mark.slow
def test_a_job_that_is_aborted_is_requeued(hosts: Hosts) -> None:
    run = hosts.folder / "runs" / "big"
    change(STEPS, ENDLESS, hosts.folder / "recipe.toml")
    job = submit(hosts)
    job.wait_until((run / "metrics.jsonl").exists)
    for process in (*hosts.workers(0), *hosts.workers(1)):  # as NCCL's watchdog ends each of them
        os.kill(process, signal.SIGABRT)
    assert job.wait(60) != 0, job.output
    assert "exitcode  : -6 " in job.output and "exitcode  : 75 " not in job.output
    assert requeued(hosts)


@pytest.mark.parametrize("everywhere", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_job_that_ends_by_a_mistake_is_not_requeued(everywhere: bool, hosts: Hosts) -> None:
    recipe = hosts.folder / "recipe.toml"
    if everywhere:
        change(STEPS, "max_steps = 4\nmax_stepz = 4", recipe)
        said = "train.max_stepz"
    else:  # on process 0 alone
        (hosts.folder / "runs").write_text("a file in the place of a folder")
        said = "process 0 (node-1) has ended"
    job = submit(hosts)
    assert job.wait(60) != 0, job.output
    assert said in job.output and "exitcode  : 2 " in job.output
    assert not requeued(hosts)


@pytest.mark.slow
def test_a_lost_machine_ends_the_other_and_the_run_goes_on(hosts: Hosts, p2pkit: Call) -> None:
    recipe, run = hosts.folder / "recipe.toml", hosts.folder / "runs" / "big"
    change(STEPS, f"{ENDLESS}\n{SHORT}", recipe)
    job = submit(hosts)
    job.wait_until(lambda: (run / "model.safetensors").exists())
    hosts.set_cable("down")
    assert job.wait(60) != 0, job.output
    for own in (0, 1):
        label = f"[process {own} of 2 on {NAMES[own]}]"
        assert f"{label} another process has ended or does not answer (Timed out waiting" in job.output
    assert "exitcode  : 75 " in job.output
    assert re.search(r"p2pkit run --resume runs/big", job.output)
    assert requeued(hosts)

    step = last_checkpoint(run)
    set_steps(run, 100000, step + 2)
    resumed = p2pkit("run", "--resume", run, "--device", "cpu")
    assert resumed.code == 0 and f"resuming from step {step}" in resumed.err

    hosts.set_cable("up")
    set_steps(run, step + 2, step + 4)
    change(ENDLESS, f"max_steps = {step + 4}", recipe)
    again = submit(hosts)
    assert again.wait(120) == 0, again.output
    assert f"resuming from step {step + 2}" in again.output
    assert last_checkpoint(run) == step + 4


@pytest.mark.slow
def test_an_elastic_run_loses_a_machine_and_takes_it_in_again(hosts: Hosts) -> None:
    run = hosts.folder / "runs" / "big"
    change(STEPS, ENDLESS, hosts.folder / "recipe.toml")
    (command,) = commands("--nnodes 1:2")
    staying, lost = (hosts.start(command, host) for host in (0, 1))
    staying.wait_until(lambda: (run / "model.safetensors").exists())
    hosts.kill(1)
    lost.wait(10)
    staying.wait_until(lambda: staying.output.count("resuming from step") == 1, 180)
    assert "another process has ended or does not answer" in staying.output
    reached = (run / "metrics.jsonl").stat().st_size
    staying.wait_until(lambda: (run / "metrics.jsonl").stat().st_size > reached, 60)
    hosts.start(command, 1)
    staying.wait_until(lambda: staying.output.count("resuming from step") == 2, 180)
    assert "interrupted at step" in staying.output
