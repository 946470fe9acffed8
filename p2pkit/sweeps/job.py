"""One run of a sweep, in a process of its own: trained, or resumed, to its end, then measured.

The process ends, with a checkpoint, as soon as the one that has started it is gone or closes its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pkit.components.host import take_over
from p2pkit.errors import P2PKitError, RunDirError, exit_code_of
from p2pkit.utils.progress import print_line

PATIENCE = 120.0
"""Seconds that a run folder is waited for which another process holds: that of a sweep which was killed just now."""


def main() -> None:
    """Do what the first argument says, JSON of :class:`p2pkit.sweeps.processes.Job`; the exit codes are p2pkit's."""
    job = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        disabled, only, trees = job["plugins"]
        take_over(disabled, only, list(map(Path, trees)))
        _work(job)
    except (KeyboardInterrupt, Exception) as error:
        told = isinstance(error, P2PKitError) or not isinstance(error, Exception)
        print_line(f"Error: {error}" if told else "".join(traceback.format_exception(error)))
        sys.exit(exit_code_of(error))


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _work(job: Mapping[str, Any]) -> None:
    from p2pkit.evaluations import evaluate
    from p2pkit.recipe.resolve import read_recipe
    from p2pkit.resumed_runs import train_or_resume
    from p2pkit.run_dir import RunDir
    from p2pkit.utils.atomic import write_json

    folder, device = RunDir(Path(job["folder"])), job["device"]
    _wait_for(folder.path)
    if not any(folder.path.glob("evaluation-*.json")):  # of a run that is over
        recipe = read_recipe(job["recipe"], job["overrides"])
        train_or_resume(recipe, job["overrides"], folder.path, device)
    print_line("measuring")
    asked, metrics = job["evaluate"], job["evaluate"]["metrics"]
    found = evaluate(
        folder.path, split=asked["split"], metrics=None if metrics is None else [each["name"] for each in metrics],
        device=device, overrides={} if metrics is None else {"metrics": metrics}, max_images=asked["max_images"],
    )  # fmt: skip
    fingerprint = folder.environment().get("data", {}).get("fingerprint") or ""
    record = {
        "row": found.row, "rows": found.rows, "set": found.facts["set"], "images": found.facts["images"],
        "fingerprint": fingerprint,
    }  # fmt: skip
    write_json(folder.path / job["record"], record)


def _wait_for(folder: Path) -> None:
    """Wait until nobody else is running in ``folder``. Raises RunDirError where that takes too long."""
    from p2pkit.run_dir import RunDir

    until = time.monotonic() + PATIENCE
    while folder.is_dir():
        try:
            with RunDir(folder).held():
                return
        except RunDirError as error:
            if time.monotonic() > until:
                raise
            print_line(f"waiting: {error}")
            time.sleep(1.0)


if __name__ == "__main__":
    main()
