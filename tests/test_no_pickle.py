"""Nothing that p2pkit reads is unpickled: not checkpoints, not models, not what other processes say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.test_many_processes import WITHOUT_STATISTICS

WATCHED = """
import pickle
import sys

armed = False

def report(what):
    if armed:
        print("UNPICKLED", what, file=sys.stderr, flush=True)

class Unpickler(pickle.Unpickler):
    def load(self):
        report("by an Unpickler")
        return super().load()

def loads(data, *, plain=pickle.loads, **options):
    report("by pickle.loads")
    return plain(data, **options)

pickle.Unpickler, pickle.loads = Unpickler, loads
sys.addaudithook(lambda event, found: report(found) if event == "pickle.find_class" else None)
import torch, accelerate, timm, torchvision  # what libraries do as they are imported is theirs
armed = True
from p2pkit.cli import main
main(sys.argv[1:])
"""


def watched(*arguments: object, launcher: tuple[str, ...] = ()) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, *launcher, *map(str, arguments)]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def test_nothing_is_unpickled(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    script, run = tmp_path / "watched.py", tmp_path / "run"
    script.write_text(WATCHED)
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    settings = [word for setting in WITHOUT_STATISTICS for word in ("--set", setting)]
    said = watched(script, "run", recipe, "--out", run, *settings, "--device", "cpu", launcher=two)
    said += watched(script, "run", "--resume", run, "--device", "cpu")
    said += watched(script, "translate", run / "model.safetensors", pairs / "test", "--out", tmp_path / "out")
    assert "UNPICKLED" not in said, said
