"""What p2pkit does on one GPU, measured in one call of under ten minutes.

    python benchmarks/gpu.py --peer PATH
    python benchmarks/gpu.py --device cpu --smoke

PATH is a clone of junyanz/pytorch-CycleGAN-and-pix2pix; without it there are no ratios. What is measured, in turn: how
fast the device multiplies and copies; steps of U-Net 256 and PatchGAN 70 at 256x256 from memory at batch 1 and 16, in
turns with the reference (as against_reference.py does), each beside the least time that its arithmetic and its bytes
take by those rates; whether a deterministic run resumes to the same bytes; a run from files, and from its rate what
80,000 steps take; tests/test_cuda.py. What fails, or has no time left, is said, and the rest goes on. `--smoke` is for
seeing whether all of it works, with tiny networks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from against_reference import draw, facts
from safetensors.torch import load_file
from side_ours import tables
from turns import LEAST_TURNS, OURS, in_turns, ratio, sides

import p2pkit
from p2pkit.run_dir import RunDir

WHOLE_RUN = 80_000
"""Steps: 200 epochs of 400 pairs, one at a time."""
BF16, REPLAYED = {"train.precision": "bf16"}, {"train.cuda_graphs": True}
OF_SIDE = ("channels_last", "cudnn_benchmark")
"""What of a variant is no key of a recipe."""
VARIANTS: Mapping[str, dict[str, Any]] = {
    "float32": REPLAYED,
    "float32, one operation after another": {},
    "float32, deterministic": {**REPLAYED, "train.deterministic": True},
    "float32, channels last": {**REPLAYED, "channels_last": True},
    "float32, cudnn.benchmark": {**REPLAYED, "cudnn_benchmark": True},
    "bf16": {**BF16, **REPLAYED},
    "bf16, one operation after another": BF16,
    "bf16, channels last": {**BF16, **REPLAYED, "channels_last": True},
    "bf16, channels last, cudnn.benchmark": {**BF16, **REPLAYED, "channels_last": True, "cudnn_benchmark": True},
}
COMPILED: Mapping[str, dict[str, Any]] = {"bf16, compiled": {**BF16, **REPLAYED, "train.compile": True}}
SMALL: Mapping[str, Any] = {
    "transform.load_size": 36, "transform.crop_size": 32, "generator.depth": 3, "generator.width": 4,
    "discriminator.name": "patchgan_16", "discriminator.width": 4,
}  # fmt: skip
HEADER = ("", "steps/s", "times the reference", "GFLOP", "MB at least", "floor", "share of the floor", "replayed")


@dataclass
class Session:
    """What is measured on, and how long it may take."""

    given: argparse.Namespace
    folder: Path
    pairs: str
    began: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return float(self.given.seconds - (time.monotonic() - self.began))

    def measure(self, name: str, part: Callable[[], dict[str, Any]], needed: float) -> None:
        """Measure a part, where the seconds that it is ``needed`` are left; what it fails by is kept in its place."""
        began = time.monotonic()
        if self.left < needed:
            self.found[name] = {"left_out": f"{self.left:.0f} s were left, and it takes {needed:.0f} s"}
        else:
            try:
                self.found[name] = part()
            except (Exception, SystemExit) as error:  # the other parts are measured all the same
                self.found[name] = {"failed": f"{type(error).__name__}: {error}"[-3000:]}
        self.found[name]["took_seconds"] = round(time.monotonic() - began, 1)
        print(f"{name}: {self.found[name]['took_seconds']} s", file=sys.stderr, flush=True)

    def limits(self) -> dict[str, Any]:
        """How fast the device multiplies and copies."""
        dtypes = ["float32"] if self.given.smoke else ["float32", "bfloat16"]
        size = 2**22 if self.given.smoke else 2**31
        with sides((OURS, "limits", {"device": self.given.device, "dtypes": dtypes, "size": size})) as made:
            return made[0].end()

    def steps(self, batch_size: int, steps: int) -> dict[str, Any]:
        """Each variant's seconds of a step, in turns, and what a step takes at least."""
        of = {"pairs": self.pairs, "device": self.given.device, "batch_size": batch_size, "steps": steps}
        variants = dict(VARIANTS, **COMPILED) if self.given.compile else dict(VARIANTS)
        wanted: list[tuple[str, str, dict[str, Any]]] = []
        if self.given.smoke:
            variants = {name: variants[name] for name in ("float32", "float32, deterministic")}
        for variant in variants.values():
            settings = {**variant, **(SMALL if self.given.smoke else {})}
            own = {name: settings.pop(name) for name in OF_SIDE if name in settings}
            wanted.append((OURS, "train", {**of, **own, "settings": settings}))
        if self.given.peer:
            wanted.append(("side_peer.py", "train", {**of, "peer": str(self.given.peer.absolute())}))
        with sides(*wanted) as made:
            seconds = in_turns(made, 1 if self.given.smoke else LEAST_TURNS)
            ended = [side.end() for side in made]
        rows = {}
        for name, own, said in zip([*variants, "reference"], seconds, ended, strict=False):
            rows[name] = {"seconds": median(own), "all_seconds": own, **said, **self._floor(name, median(own), said)}
            if self.given.peer:
                rows[name]["times_reference"] = ratio(own, seconds[-1])
        costs = ratio(seconds[0], seconds[list(variants).index("float32, deterministic")])
        return {"rows": rows, "deterministic_costs": costs}

    def _floor(self, name: str, seconds: float, said: Mapping[str, Any]) -> dict[str, float]:
        """The least seconds of a step by the device's rates, and their share of those that it takes."""
        limits = self.found["limits"]
        dtype = "bfloat16" if name.startswith("bf16") else "float32"
        if "bytes" not in said or dtype not in limits.get("flop_per_second", {}):
            return {}
        arithmetic = said["flop"] / limits["flop_per_second"][dtype]
        memory = said["bytes"] / limits["bytes_per_second"]
        floor = max(arithmetic, memory)
        return {"arithmetic": arithmetic, "memory": memory, "floor": floor, "share": floor / seconds}

    def run(self, name: str, settings: Mapping[str, Any]) -> p2pkit.TrainingResult:
        """Train by the benchmark's recipe, from files, in a folder of that name."""
        recipe, own = tables(self.pairs, 1, 0, 286), {**(SMALL if self.given.smoke else {}), **settings}
        return p2pkit.train(recipe, own, self.folder / name, self.given.device)

    def resume(self) -> dict[str, Any]:
        """Whether a run that is cut in the middle ends in the bytes of one left alone."""
        steps = 8 if self.given.smoke else 40
        exact = {"train.deterministic": True, "train.ema_decay": 0.999}
        alone = self.run("alone", {**exact, "train.max_steps": steps})
        begun = self.run("begun", {**exact, "train.max_steps": steps // 2})
        p2pkit.resume(begun.run_dir, {"train.max_steps": steps}, self.given.device)
        at = Path("checkpoints", f"step_{steps:08}")
        differs = {}
        for file in ("networks.safetensors", "optimizers.safetensors"):
            one, other = (load_file(run.run_dir / at / file) for run in (alone, begun))
            differs[file] = max(float((one[name] - other[name]).abs().max()) for name in one)
        same = alone.model_path.read_bytes() == begun.model_path.read_bytes()
        return {"steps": steps, "same_model_bytes": same, "largest_difference": differs}

    def whole_run(self) -> dict[str, Any]:
        """The rate of a run from files, decoded once and kept on the device, and what 80,000 steps take by it."""
        rows = self.found["steps, batch 1"].get("rows", {})
        precision = min(("float32", "bf16"), key=lambda name: rows.get(name, {}).get("seconds", 1.0))
        seconds = rows.get(precision, {}).get("seconds", 0.05)
        steps = 8 if self.given.smoke else min(WHOLE_RUN, 2 * int(self.given.run_seconds / seconds / 2))
        limits = {"train.max_steps": steps, "train.checkpoint_every": steps // 2, "loader.cache": "device"}
        result = self.run("whole", {**limits, **REPLAYED, **(BF16 if precision == "bf16" else {})})
        taken = []
        for step in (steps // 2, steps):
            record = RunDir(result.run_dir).checkpoints / f"step_{step:08}" / "progress.json"
            taken.append(json.loads(record.read_text())["seconds"])
        each = (taken[1] - taken[0]) / (steps - steps // 2)
        by = {"precision": precision, "steps": steps, "steps_seconds": taken[1], "seconds_per_step": each}
        return {**by, "whole_run_seconds": WHOLE_RUN * each, "projected_from_memory": WHOLE_RUN * seconds}

    def tests(self) -> dict[str, Any]:
        """What becomes of tests/test_cuda.py."""
        file = Path(__file__).parents[1] / "tests" / "test_cuda.py"
        words = [sys.executable, "-m", "pytest", "-q", "--tb=short", str(file)]
        done = subprocess.run(
            words, cwd=file.parents[1], capture_output=True, text=True, check=False, timeout=max(self.left, 1)
        )
        said = done.stdout.strip().splitlines()
        return {"exit_code": done.returncode, "said": said[-1] if said else "", "output": said[-80:]}


def table(found: Mapping[str, Any]) -> list[str]:
    """Steps as a table in Markdown, and the rest in sentences."""
    lines = []
    for name, part in found.items():
        if why := part.get("failed") or part.get("left_out"):
            lines += [f"{name}: {'failed' if 'failed' in part else 'left out'}: {why}", ""]
        if rows := part.get("rows"):
            lines += [f"{name}:", "", _line(HEADER), _line(["---"] * len(HEADER))]
            lines += [_line([variant, *_cells(row)]) for variant, row in rows.items()]
            costs = part["deterministic_costs"]
            lines += ["", f"`deterministic` takes {costs['median']:.2f} times as long as float32.", ""]
    lines.append(json.dumps({key: part for key, part in found.items() if "rows" not in part}, indent=2))
    return lines


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = [f"{1 / row['seconds']:.4g}"]
    faster = row.get("times_reference")
    cells += [f"{faster['median']:.2f} ({faster['low']:.2f} to {faster['high']:.2f})" if faster else ""]
    cells += [f"{row['flop'] / 1e9:.1f}", f"{row['bytes'] / 1e6:.0f}" if "bytes" in row else ""]
    cells += [f"{1000 * row['floor']:.2f} ms", f"{row['share']:.0%}"] if "floor" in row else ["", ""]
    return [*cells, ("yes" if row["recorded"] else "no") if "recorded" in row else ""]


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure all of it, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="a clone of the reference implementation")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=540, help="after which no part begins any more [540]")
    parser.add_argument("--run-seconds", type=float, default=60, help="that the run from files takes about [60]")
    parser.add_argument("--compile", action="store_true", help="measure compiled networks too, a minute or two more")
    parser.add_argument("--smoke", action="store_true", help="tiny networks and few steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pkit-gpu-") as made:
        os.environ["XDG_CACHE_HOME"], os.environ["TMPDIR"] = str(Path(made) / "cache"), made
        session = Session(given, Path(made), str(draw(Path(made), 36 if given.smoke else 256)[0]))
        sizes = {1: 1} if given.smoke else {1: 100, 16: 12}
        session.measure("limits", session.limits, 20)
        for size, steps in sizes.items():
            session.measure(f"steps, batch {size}", partial(session.steps, size, steps), 90)
        session.measure("resume", session.resume, 45)
        session.measure("run", session.whole_run, given.run_seconds + 30)
        if given.device == "cuda":
            session.measure("tests", session.tests, 45)
        found = {"machine": facts(given.device, busy=False), **session.found}
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
