"""Two hosts on this machine: network namespaces joined by a cable, each with a name that the other resolves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NAMES = ("node-1", "node-2")
ENTER = """#!/bin/sh
exec ip netns exec {namespace} unshare --uts sh -c 'hostname {name}; exec "$@"' sh "$@"
"""


@dataclass
class Running:
    """A command on a host, its output in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait(self, seconds: float) -> int:
        """The exit code, which has to be there within some seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s:\n{self.output}")

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for something that this command is to bring about."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output
            time.sleep(0.05)


@dataclass
class Hosts:
    """The two of them; ``folder`` is what they share: where commands run, and what they write."""

    folder: Path
    namespaces: Sequence[str]
    started: list[Running] = field(default_factory=list)

    def start(self, command: str, host: int | None = None) -> Running:
        """A shell command on a host, 0 or 1; without one, on the machine that queues jobs for both."""
        entered = [str(self.folder / "bin" / NAMES[host])] if host is not None else []
        log = self.folder / f"log-{len(self.started)}"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [*entered, "sh", "-c", command], cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.started.append(Running(process, log))
        return self.started[-1]

    def _environment(self) -> dict[str, str]:
        programs = (str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
        repository = str(Path(__file__).parent.parent)
        return {
            **os.environ, "PATH": os.pathsep.join(programs), "PYTHONPATH": repository, "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip

    def processes(self, host: int) -> list[int]:
        """The processes on a host."""
        found = subprocess.run(["ip", "netns", "pids", self.namespaces[host]], capture_output=True, text=True)
        return [int(number) for number in found.stdout.split()]

    def workers(self, host: int) -> list[int]:
        """Those of them that a launcher has started to train."""
        found = []
        for number in self.processes(host):
            command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            if command[1:4] == [b"-u", b"-m", b"p2pkit"]:
                found.append(number)
        return found

    def kill(self, host: int) -> None:
        """End all that runs on a host, as a crash does."""
        for process in self.processes(host):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def set_cable(self, state: str) -> None:
        """Pull the cable between the hosts ("down") or put it back ("up"); neither is notified."""
        subprocess.run(["ip", "-n", self.namespaces[1], "link", "set", "eth0", state], check=True)


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts, for as long as the body takes; the test is skipped where namespaces cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces cannot be made here: there is no program ip (iproute2)")
    hosts = Hosts(folder, [f"p2pkit-{os.getpid()}-{number}" for number in (1, 2)])
    try:
        try:
            _make(hosts)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip()
            pytest.skip(f"network namespaces cannot be made here: {reason}")
        yield hosts
    finally:
        for host in (0, 1):
            hosts.kill(host)
        for running in hosts.started:
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()
        for namespace in hosts.namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)


def _make(hosts: Hosts) -> None:
    first, second = hosts.namespaces
    for namespace in hosts.namespaces:
        _ip("netns", "add", namespace)
    _ip("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0", "netns", second)
    addresses = [f"10.77.0.{number}" for number in (1, 2)]
    known = "".join(f"{address} {name}\n" for address, name in zip(addresses, NAMES, strict=True))
    for name, namespace, address in zip(NAMES, hosts.namespaces, addresses, strict=True):
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        # ip-netns(8) puts these in the place of the files in /etc
        own = Path("/etc/netns") / namespace
        own.mkdir(parents=True)
        (own / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        (own / "nsswitch.conf").write_text("hosts: files\n")
        write_program(hosts.folder / "bin" / name, ENTER.format(namespace=namespace, name=name))
    subprocess.run([hosts.folder / "bin" / NAMES[0], "true"], check=True, capture_output=True, text=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def write_program(file: Path, text: str) -> None:
    """A script that can be called by its name."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
