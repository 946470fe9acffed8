"""Completion in shells, which click makes: the script, and what it asks the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pkit.components.kinds import KINDS
from tests.conftest import FAKE_DISTRIBUTION

NO_TORCH = """
import sys
from p2pkit.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""


def complete(*words: str) -> list[tuple[str, ...]]:
    """What completes the last of ``words``, as (type, value), without torch, which takes seconds."""
    command = " ".join(["p2pkit", *words])
    environment = {**os.environ, "_P2PKIT_COMPLETE": "bash_complete", "COMP_WORDS": command}
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run([sys.executable, "-c", NO_TORCH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return [tuple(line.split(",")) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str) -> None:
    environment = {**os.environ, "_P2PKIT_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-m", "p2pkit"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"_P2PKIT_COMPLETE={shell}_complete" in done.stdout


def test_commands_options_and_values() -> None:
    assert complete("ex") == [("plain", "export")]
    assert ("plain", "--max-time") in complete("run", "--m")
    assert complete("run", "--device", "cu") == [("plain", "cuda"), ("plain", "cuda:0")]
    assert complete("translate", "--size", "na") == [("plain", "native")]


def test_recipes_are_files_and_those_of_plugins() -> None:
    assert complete("run", "recipes/qu") == [("file", "recipes/qu")]
    found = complete("--plugins-dir", str(FAKE_DISTRIBUTION), "check", "ti")
    assert found[0] == ("file", "ti") and all(":" in name for _, name in found[1:])


def test_kinds_of_components() -> None:
    assert complete("components", "gener") == [("plain", "generators")] and "generators" in KINDS


def test_a_completion_in_bash_itself(tmp_path: Path) -> None:
    program = tmp_path / "p2pkit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m p2pkit "$@"\n')
    program.chmod(0o755)
    script = (
        f"export PATH={tmp_path}:$PATH\n"
        'eval "$(_P2PKIT_COMPLETE=bash_source p2pkit)"\n'
        "COMP_WORDS=(p2pkit transl) COMP_CWORD=1\n"
        "_p2pkit_completion p2pkit\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout == "translate\n", done.stderr
