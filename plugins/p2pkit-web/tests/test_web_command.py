"""``p2pkit serve`` as a program: it says where it is, serves, and ends by Ctrl-C; and what it refuses to begin."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from p2pkit.cli.main import program as commands
from tests.conftest import REPOSITORY, Call


def started(*arguments: str | Path, command: str = "serve") -> tuple[subprocess.Popen[str], str]:
    """The program, and the address that it prints."""
    plugin = REPOSITORY / "plugins" / "p2pkit-web"
    line = [sys.executable, "-m", "p2pkit", "--plugins-dir", plugin, command, "--port", "0", *arguments]
    process = subprocess.Popen(
        list(map(str, line)), stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise AssertionError(f"it ended with {process.wait()}")


def test_it_serves_until_ctrl_c(model: Path) -> None:
    process, address = started(model)
    try:
        with urllib.request.urlopen(f"{address}api/models", timeout=30) as answer:
            assert json.load(answer)["models"][0]["title"].endswith(model.parent.name)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in (0, 130)


def test_other_hosts_get_a_token(model: Path) -> None:
    process, address = started(model, "--host", "0.0.0.0")
    try:
        found = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/\?token=([\w-]{32})", address)
        assert found is not None
        request = urllib.request.Request(
            f"http://127.0.0.1:{found[1]}/api/models", headers={"Authorization": f"Bearer {found[2]}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)


def test_what_cannot_be_served_is_told_at_once(
    program: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "commands", {})  # to which that of the plugin is added
    missing = program("serve", tmp_path / "nothing.safetensors")
    assert missing.code == 2 and "there is no such model file" in missing.err
    assert program("serve", "--token", "short", model).code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = program("serve", "--port", taken.getsockname()[1], model)
    assert busy.code == 2 and "another --port" in busy.err


def test_links_of_the_readme_lead_somewhere() -> None:
    plugin = REPOSITORY / "plugins" / "p2pkit-web"
    links = re.findall(r"\]\(([^)#:]+)\)", (plugin / "README.md").read_text())
    assert links and [link for link in links if not (plugin / link).exists()] == []
