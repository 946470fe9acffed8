"""A run's report while it goes on: written now and then, with its status; what goes wrong there ends no run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import torch

from p2pkit.distributed.collectives import on_main_process
from p2pkit.errors import first_line
from p2pkit.settings import Limits
from p2pkit.training.outputs import Outputs
from p2pkit.training.prepare import EMA
from p2pkit.training.state import RunState
from p2pkit.utils.atomic import write_json
from p2pkit.utils.memory import peak_memory
from p2pkit.utils.progress import print_line
from p2pkit.utils.signals import Interrupted

if TYPE_CHECKING:
    from p2pkit.reports.rules import RunWarning

LEAST_SECONDS = 20.0
"""A report is not written more often than that."""
SHARE = 0.01
"""The most of a run's time that its reports take, but for the first."""


class RunReport:
    """Writes status.json and report.html of a run, on the main process, and prints what its metrics warn of."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.warnings: Sequence[RunWarning] = ()
        """What there is to be warned of as it was last written."""
        self._next = 0.0
        self._printed = set[str]()

    def update(self, state: RunState, limits: Limits) -> None:
        """Write the report, unless it was written a short while ago; every process calls it at the same steps."""

        def write() -> None:
            if time.monotonic() >= self._next:
                self._write(state, limits, "running", "")

        on_main_process(self.outputs.accelerator, write)

    def end(self, state: RunState, limits: Limits, error: BaseException | None = None) -> None:
        """Write the report of a run that has ended, by itself or by an ``error``; other processes may be gone."""
        if not self.outputs.accelerator.is_main_process:
            return
        if error is None:
            self._write(state, limits, "finished", state.stopped)
        else:
            interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
            self._write(state, limits, "interrupted" if interrupted else "failed", first_line(error))

    def _write(
        self, state: RunState, limits: Limits, called: Literal["running", "finished", "interrupted", "failed"],
        reason: str,
    ) -> None:  # fmt: skip
        began, folder = time.monotonic(), self.outputs.folder
        try:
            # here, since jinja2 and matplotlib come with it
            from p2pkit.reports.record import RunRecord
            from p2pkit.reports.report import write_report

            write_json(folder.status, {"state": called, "reason": reason, **self._status(state, limits)})
            record = RunRecord.read(folder)
            self.warnings = record.warnings
            self._print_new()
            write_report([record], folder.report)
        except Exception as error:
            if "failure" not in self._printed:
                with suppress(OSError):  # a closed terminal
                    print_line(f"NOTICE: the report is not written: {first_line(error)}; the run goes on without it")
            self._printed.add("failure")
        now = time.monotonic()
        self._next = now + max(LEAST_SECONDS, (now - began) / SHARE)

    def _print_new(self) -> None:
        for warning in self.warnings:
            if warning.name not in self._printed:
                print_line(f"WARNING: {warning}")
                self._printed.add(warning.name)

    def _status(self, state: RunState, limits: Limits) -> dict[str, Any]:
        position, networks = limits.position(state.step, state.seconds), self.outputs.trained.networks
        device = self.outputs.accelerator.device
        return {
            "step": state.step,
            "steps": limits.steps,
            "epoch": position.epoch,
            "progress": min(1.0, position.progress),
            "seconds": round(state.seconds, 3),
            "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "peak_memory": peak_memory(),
            "peak_device_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
            "best_step": state.best.step if state.best else None,
            "parameters": {
                name: sum(parameter.numel() for parameter in network.parameters())
                for name, network in networks.items() if name != EMA
            },
        }  # fmt: skip
