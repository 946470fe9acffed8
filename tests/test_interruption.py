"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import time

import pytest

from p2pkit.engine.interruption import ECHO_SECONDS, Interruption


def test_a_second_signal_leaves_at_once_but_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with Interruption() as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.signal == signal.SIGTERM and left == []
        time.sleep(ECHO_SECONDS + 0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [130]
