"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import time

import pytest

from p2pkit.utils.signals import ECHO_SECONDS, Interruption


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have left."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_a_second_signal_leaves_at_once(left: list[int]) -> None:
    interruption = Interruption()
    with interruption.remembered():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM and left == []
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [130]


def test_one_of_several_processes_takes_no_echo_for_a_second_signal(
    left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    interruption = Interruption()
    with interruption.remembered():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.signal == signal.SIGTERM and left == []
        time.sleep(ECHO_SECONDS + 0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [130]


def test_a_signal_that_is_ignored_stays_ignored(left: list[int]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell has it for what it runs in the background
    try:
        interruption = Interruption()
        with interruption.remembered():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption.signal and left == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
