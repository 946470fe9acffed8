"""Memory that steps on a CPU free is theirs again, and the system's after the run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc alone to keep memory")

FEW = 16
"""Pages. A block of 64 MiB has 32 where they are large, and 16384 where they are not."""
OF_GLIBC = "MALLOC_", "GLIBC_TUNABLES"
PROGRAM = """
import resource
import sys

import torch

import p2pkit


def faults():
    torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


class Counting:
    found = []

    def on_step_end(self, run):
        self.found.append(faults())


p2pkit.train(sys.argv[1], out=sys.argv[2], callbacks=[Counting()])
print(*Counting.found)
"""
AROUND = """
import resource

import torch

from p2pkit.utils.memory import freed_memory_kept


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


with freed_memory_kept(True):
    blocks = [torch.ones(2**24) for _ in range(4)]
    del blocks
    held = resident()
print(held - resident())
"""


def last_line(program: str, *arguments: object, **settings: str) -> str:
    """The last line that a program prints, whose environment says nothing of glibc but these ``settings``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_GLIBC)} | settings
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()[-1]


def pages_taken(recipe: Path, out: Path, **settings: str) -> list[int]:
    """Pages that the system gives in each step for a block as large as one that has just been freed."""
    steps = list(map(int, last_line(PROGRAM, recipe, out, **settings).split()))
    assert len(steps) == 4
    return steps


def test_steps_have_again_what_they_freed(recipe: Path, tmp_path: Path) -> None:
    assert min(pages_taken(recipe, tmp_path / "run")) < FEW  # what is freed may be cut to pieces in one or another


def test_what_the_user_set_stays(recipe: Path, tmp_path: Path) -> None:
    assert min(pages_taken(recipe, tmp_path / "run", MALLOC_MMAP_THRESHOLD_=str(2**20))) > FEW


def test_what_is_free_goes_back_to_the_system() -> None:
    assert int(last_line(AROUND)) > 3 * 2**26
