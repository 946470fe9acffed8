"""The program's face: help without torch, exit codes, messages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2pkit.cli.main import COMMANDS
from tests.conftest import Call

WITHOUT_TORCH = """
import sys
from p2pkit.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "torch was imported"
    assert "pydantic" not in sys.modules, "pydantic was imported"
"""


@pytest.mark.parametrize("arguments", [["--help"], *[[name, "--help"] for name in COMMANDS]])
def test_help_never_imports_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: p2pkit")


@pytest.mark.parametrize("arguments", [["plugins"], ["plugins", "--json"], ["plugins", "list"]])
def test_plugins_never_imports_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "builtin" in done.stdout


def test_a_misspelt_command_is_told_the_nearest(p2pkit: Call) -> None:
    outcome = p2pkit("rum")
    assert outcome.code == 2
    assert "did you mean 'run'?" in outcome.err


def test_an_unknown_option_is_the_users_mistake(p2pkit: Call) -> None:
    outcome = p2pkit("run", "--recipe", "x.toml")
    assert outcome.code == 2
    assert "--recipe" in outcome.err


def test_run_needs_a_recipe(p2pkit: Call) -> None:
    outcome = p2pkit("run")
    assert outcome.code == 2
    assert "RECIPE" in outcome.err


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "p2pkit", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("p2pkit, version")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m p2pkit schema | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
