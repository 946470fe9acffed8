"""A GPU's work recorded as a CUDA graph, and replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WAITS = "called a synchronizing CUDA operation"


class CudaRecorder:
    """Records the work that a function gives a GPU, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        self._left: Any = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Have the body's work done on the stream that records.

        What is recorded may not meet what autograd keeps for parameters on another stream.
        """
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """List, behind the body, what its work has from the CPU, or waits for."""
        why, mode, drawn = list[str](), torch.cuda.get_sync_debug_mode(), torch.default_generator.get_state()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield why
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        if not torch.equal(drawn, torch.default_generator.get_state()):
            why.append("numbers are drawn on the CPU in a step")
        for each in warned:
            if _WAITS in str(each.message):
                why.append("a step waits for the GPU, as .item(), an if of a tensor, or a copy from the CPU do")
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    def record(self, work: Callable[[], Any]) -> None:
        """Record what ``work`` gives the GPU, which does none of it yet.

        Raises:
            RuntimeError: something of it cannot be recorded; nothing has been done then.
        """
        try:
            # the threads of a loader may use the GPU meanwhile
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._left = work()
        except RuntimeError:
            # it may have been left in the middle of a recording, where it does not draw for others
            fresh = torch.Generator(self._device).graphsafe_get_state()
            torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(fresh)
            raise

    def replay(self) -> Any:
        """Have it done; what ``work`` has given, whose tensors have the new values."""
        self._graph.replay()
        return self._left
