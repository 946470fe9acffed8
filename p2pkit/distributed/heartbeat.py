"""Several processes that watch each other: when one ends or falls silent, the others end too and say why.

A collective waits for a dead machine for as long as its time-out lets it. So each process holds a connection to
process 0 and sends a line over it every second, from a thread of its own: it goes on while the main thread waits, and
does not depend on how tensors travel.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import platform
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from p2pkit.errors import ProcessLost

SILENCE_SECONDS = 30
"""A process that has not been heard from for so long is lost."""
GRACE_SECONDS = 5
"""How long the main thread may take to end by itself once another process has ended."""
LOST = ProcessLost("").exit_code


@dataclass(frozen=True)
class End:
    """How a process has ended: its exit code, 0 when all is done, and why."""

    rank: int
    host: str
    code: int
    why: str


@dataclass(frozen=True)
class MeetingPoint:
    """Where process 0 listens, and the name of its machine; the secret keeps strangers out."""

    address: str
    port: int
    host: str
    secret: str


class Heartbeat:
    """The watch of one process over the others, from :meth:`join` to :meth:`leave`.

    ``report`` prints a message. When another process is lost and the main thread does not end within GRACE_SECONDS, the
    watch reports it and ends this process, with the other's exit code or 75.
    """

    def __init__(self, rank: int, processes: int, report: Callable[[str], None]) -> None:
        self.rank, self.host, self.report = rank, platform.node(), report
        self.advice: Callable[[], str] = str
        """Gives what to say, after the reason, when a process is lost."""
        watched = range(1, processes) if rank == 0 else [0]
        self._hosts = dict.fromkeys(watched, "unknown host")
        self._silent = dict.fromkeys(watched, 0)
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._lost: End | None = None
        self._news = threading.Event()
        self._end: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._not_met = set(watched)
        self._met, self._over = asyncio.Event(), asyncio.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> tuple[socket.socket, MeetingPoint]:
        """On process 0: a socket that listens, and where it is to be found."""
        address = os.environ.get("MASTER_ADDR", "localhost")
        only_here = address in ("localhost", "127.0.0.1")
        if not only_here and socket.has_dualstack_ipv6():
            listening = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listening = socket.create_server((address if only_here else "", 0))
        return listening, MeetingPoint(address, listening.getsockname()[1], self.host, secrets.token_hex(16))

    def join(self, point: MeetingPoint, listening: socket.socket | None) -> None:
        """Start to watch and to be watched. ``listening`` is what :meth:`open` gave, None but on process 0.

        Raises:
            ProcessLost: process 0 cannot be reached.
        """
        try:
            connection = listening or socket.create_connection((point.address, point.port), SILENCE_SECONDS)
        except OSError as error:
            raise ProcessLost(
                f"process 0 cannot be reached at {point.address}, port {point.port} ({error}); every machine must be "
                "able to connect to any port of the one with process 0"
            ) from error
        connection.setblocking(False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(point, connection), name="heartbeat", daemon=True)
        self._thread.start()

    def leave(self, code: int, why: str) -> None:
        """Report to the others that this process ends, and stop watching them."""
        if self._thread is None:
            return
        with suppress(TimeoutError):
            goodbye = asyncio.run_coroutine_threadsafe(self._say_goodbye(code, why), self._loop)
            goodbye.result(2 * GRACE_SECONDS)
        self._thread.join(GRACE_SECONDS)
        self._thread = None

    def loss(self) -> ProcessLost | None:
        """Which process has been lost, once the news has had time to arrive; None when none has."""
        self._news.wait(GRACE_SECONDS)
        return self._describe(self._lost) if self._lost else None

    def _describe(self, lost: End) -> ProcessLost:
        return ProcessLost(f"process {lost.rank} ({lost.host}) {lost.why}{self.advice()}", lost.code)

    def _run(self, point: MeetingPoint, connection: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._watch(point, connection))

    async def _watch(self, point: MeetingPoint, connection: socket.socket) -> None:
        beats = asyncio.create_task(self._beat())
        await self._meet(point, connection)
        await self._over.wait()
        beats.cancel()

    async def _meet(self, point: MeetingPoint, connection: socket.socket) -> None:
        if self.rank == 0:
            server = await asyncio.start_server(lambda *streams: self._welcome(point, *streams), sock=connection)
            await self._over.wait()
            server.close()
            return
        reader, writer = await asyncio.open_connection(sock=connection)
        self._hosts[0] = point.host
        _send(writer, {"secret": point.secret, "rank": self.rank, "host": self.host})
        await self._listen(0, reader, writer)

    async def _welcome(self, point: MeetingPoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in a process that has connected, if it knows the secret."""
        try:
            hello = json.loads(await reader.readline())
            rank, host = int(hello["rank"]), str(hello["host"])
            expected = hmac.compare_digest(str(hello["secret"]), point.secret) and rank in self._hosts
        except (OSError, ValueError, KeyError, TypeError):
            expected = False
        if not expected:
            writer.close()
            return
        self._hosts[rank] = host
        await self._listen(rank, reader, writer)

    async def _listen(self, rank: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[rank] = writer
        self._not_met.discard(rank)
        if not self._not_met:
            self._met.set()
        if self.rank == 0 and self._lost is not None:
            _send(writer, asdict(self._lost))  # it has come too late to hear of it with the others
        with suppress(OSError):
            async for line in reader:
                if rank in self._silent:
                    self._silent[rank] = 0
                if line.strip():
                    self._hear(End(**json.loads(line)))
        del self._writers[rank]
        writer.close()
        if rank in self._silent:
            self._lose(rank, "exited without an error: killed, or its machine went down.", GRACE_SECONDS)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1)
            for writer in self._writers.values():
                writer.write(b"\n")
            # counted, not read off the clock: a process that was itself suspended for an hour must blame nobody
            for rank in list(self._silent):
                self._silent[rank] += 1
                if self._silent[rank] == SILENCE_SECONDS:
                    self._lose(rank, f"has not been heard from for {SILENCE_SECONDS} s.", 0)

    def _lose(self, rank: int, why: str, grace: float) -> None:
        self._hear(End(rank, self._hosts[rank], LOST, why), grace)

    def _hear(self, end: End, grace: float = GRACE_SECONDS) -> None:
        """A process has ended: forget it when all was done, else pass it on and end this process too."""
        self._silent.pop(end.rank, None)
        if end.code == 0 or self._lost is not None:
            return
        self._lost = end
        if self.rank == 0:
            for rank, writer in self._writers.items():
                if rank != end.rank:
                    _send(writer, asdict(end))
        self._news.set()
        self._end = self._loop.call_later(grace, self._end_this_process, end)

    def _end_this_process(self, end: End) -> None:
        self.report(str(self._describe(end)))
        # the main thread may wait in a collective, where no exception reaches it
        os._exit(end.code)

    async def _say_goodbye(self, code: int, why: str) -> None:
        self._silent.clear()
        if self._end is not None:
            self._end.cancel()
        with suppress(TimeoutError):  # a mistake made at once is known before all connections are
            await asyncio.wait_for(self._met.wait(), GRACE_SECONDS)
        writers = list(self._writers.values())
        for writer in writers:
            _send(writer, asdict(End(self.rank, self.host, code, why)))
            writer.close()
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()
        self._over.set()


def _send(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
