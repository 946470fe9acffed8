"""The one thread that has the network: sources wait for it in a line; on a GPU several go through together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2pkit_web.metrics import Metrics

if TYPE_CHECKING:
    from torch import Tensor

    from p2pkit import Translator

TOGETHER = 8
"""So many sources go through a GPU at once."""


@dataclass
class Job:
    """Work for the network: a source [C, H, W] in [-1, 1] with its seed, or anything else that needs the network."""

    translator: Translator
    source: Tensor | None = None
    seed: int = 0
    work: Callable[[], Any] | None = None
    done: Future[Any] = field(default_factory=Future)
    """Its output [Ct, h, w], or what ``work`` gives."""

    def goes_with(self, other: Job) -> bool:
        """Whether both may be in one batch, which makes no difference to what comes out."""
        if self.source is None or other.source is None or self.translator is not other.translator:
            return False
        alike = self.seed == other.seed and self.source.shape == other.source.shape
        return alike and self.translator.policy.norm != "batch" and self.on_gpu

    @property
    def on_gpu(self) -> bool:
        """Whether its network is on a GPU, where several sources are hardly slower than one."""
        return self.translator.device.type != "cpu"


class Network:
    """Does jobs one after another, in a thread of its own."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._jobs, self._there = metrics, deque[Job](), threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def do(self, job: Job) -> Future[Any]:
        """Put a job at the end of the line; what is cancelled before its turn is left out."""
        with self._there:
            self._jobs.append(job)
            self._there.notify()
        return job.done

    def end(self) -> None:
        """End the thread after the job in hand."""
        with self._there:
            self._ended = True
            self._there.notify()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if not batch:
                continue
            began = time.perf_counter()
            try:
                outputs = _outputs(batch)
            except BaseException as error:  # it is the request's, whatever it is; the thread goes on
                for job in batch:
                    job.done.set_exception(error)
                continue
            self._metrics.network.observe(time.perf_counter() - began)
            self._metrics.images.inc(len(batch))
            for job, output in zip(batch, outputs, strict=True):
                job.done.set_result(output)

    def _next(self) -> list[Job] | None:
        """The next jobs that go together; none where they were cancelled, None at the end."""
        with self._there:
            while not self._jobs and not self._ended:
                self._there.wait()
            if self._ended:
                return None
            first = self._jobs.popleft()
            batch = [first]
            for job in list(self._jobs):
                if len(batch) == TOGETHER:
                    break
                if job.goes_with(first):
                    self._jobs.remove(job)
                    batch.append(job)
        return [job for job in batch if job.done.set_running_or_notify_cancel()]


def _outputs(batch: list[Job]) -> list[Any]:
    import torch

    first = batch[0]
    if first.work is not None:
        return [first.work()]
    sources = [job.source for job in batch if job.source is not None]
    return list(first.translator.tensor(torch.stack(sources), first.seed))
