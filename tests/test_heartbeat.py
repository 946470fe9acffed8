"""The watch that several processes keep over each other, with three of them in one process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from p2pkit.distributed.heartbeat import Heartbeat, MeetingPoint
from p2pkit.errors import ProcessLost

Watches = tuple[list[Heartbeat], MeetingPoint]


def stay(message: str) -> None:
    """Takes the place of printing, after which a watch would end this process."""
    raise AssertionError(message)


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watches]:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    everyone = [Heartbeat(rank, 3, stay) for rank in range(3)]
    listening, point = everyone[0].open()
    for watch in everyone:
        watch.join(point, listening if watch.rank == 0 else None)
    yield everyone, point
    for watch in everyone:
        watch.leave(0, "is done")


def test_why_one_process_ends_reaches_all_others(watches: Watches) -> None:
    first, second, third = watches[0]
    second.leave(2, "has ended: the disk is full")
    for other in first, third:
        other.advice = lambda: "\nTo resume: so"
        loss = other.loss()
        assert loss is not None and loss.exit_code == 2
        assert str(loss) == f"process 1 ({second.host}) has ended: the disk is full\nTo resume: so"


def test_a_process_whose_work_is_done_is_not_missed(watches: Watches) -> None:
    first, second, third = watches[0]
    second.leave(0, "is done")
    third.leave(3, "has ended: last")
    loss = first.loss()
    assert loss is not None and "process 2" in str(loss)


def test_a_stranger_is_not_listened_to(watches: Watches) -> None:
    everyone, point = watches
    for said in b"\xff\n", b"{}\n", b'{"secret": "guessed", "rank": 1, "host": "elsewhere"}\n', b"[1]\n":
        with socket.create_connection((point.address, point.port)) as stranger:
            stranger.sendall(said)
            assert stranger.recv(100) == b""
    everyone[2].leave(2, "has ended: of itself")
    loss = everyone[1].loss()
    assert loss is not None and "process 2" in str(loss)


def test_process_0_that_cannot_be_reached_is_reported() -> None:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    watch = Heartbeat(1, 2, stay)
    with pytest.raises(ProcessLost, match=f"process 0 cannot be reached at localhost, port {port}"):
        watch.join(MeetingPoint("localhost", port, "here", "secret"), None)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_made_at_once_is_reported_before_all_have_met(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    both = [Heartbeat(each, 2, stay) for each in range(2)]
    listening, point = both[0].open()
    both[rank].join(point, listening if rank == 0 else None)
    hasty = threading.Thread(target=both[rank].leave, args=(2, "has ended: of itself"))
    hasty.start()
    time.sleep(0.5)  # the other is late
    other = both[1 - rank]
    other.join(point, None if rank == 0 else listening)
    loss = other.loss()
    hasty.join()
    assert loss is not None and loss.exit_code == 2
    other.leave(2, "has ended: so")


def test_a_process_that_comes_late_learns_what_has_been_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    first, second, late = (Heartbeat(rank, 3, stay) for rank in range(3))
    listening, point = first.open()
    first.join(point, listening)
    second.join(point, None)
    second.leave(2, "has ended: of itself")
    assert first.loss() is not None
    late.join(point, None)
    loss = late.loss()
    assert loss is not None and loss.exit_code == 2
    late.leave(2, "has ended: so")
    first.leave(2, "has ended: so")
