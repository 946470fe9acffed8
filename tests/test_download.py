"""Downloading from servers that misbehave."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from p2pkit.downloads import download as download_module
from p2pkit.downloads.download import Missing, Unreachable, download
from p2pkit.downloads.lock import locked
from p2pkit.errors import DataError, WriteError
from tests.web import OLD, Site, served

NEW = OLD[::-1]
HALF = 500_000


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download_module, "PAUSE_SECONDS", 0.0)
    with served(Site()) as site:
        yield site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "data.tar.gz"


def leave_partial(site: Site, file: Path) -> None:
    """Break off for good after the first half."""
    site.cut_after = [HALF, 0, 0, 0]
    with pytest.raises(Unreachable, match=f"breaks off after {HALF} of {len(OLD)} bytes"):
        download(site.url, file)
    assert not file.exists()
    assert file.with_name("data.tar.gz.part").stat().st_size == HALF
    site.asked.clear()


def test_download_leaves_the_file_alone(site: Site, file: Path) -> None:
    download(site.url, file, md5=hashlib.md5(OLD).hexdigest().upper())
    assert file.read_bytes() == OLD
    assert list(file.parent.iterdir()) == [file]
    assert site.asked == [None]


def test_sha256_is_checked_too(site: Site, file: Path) -> None:
    with pytest.raises(DataError, match="SHA256 checksum is"):
        download(site.url, file, sha256="0" * 64)
    download(site.url, file, sha256=hashlib.sha256(OLD).hexdigest()[:8])  # all of its digits, or the first
    assert file.read_bytes() == OLD


def test_a_file_that_the_server_does_not_have_is_not_a_server_in_trouble(site: Site, file: Path) -> None:
    for status, kind in ((404, Missing), (410, Missing), (503, Unreachable)):
        site.status = status
        with pytest.raises(Unreachable, match=f"HTTP {status}") as raised:
            download(site.url, file)
        assert type(raised.value) is kind and site.url in str(raised.value)
    assert len(site.asked) == 3 and not file.exists()


def test_a_lock_that_was_waited_for_keeps_others_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when what it guarded has come and gone meanwhile."""
    inside, entered = threading.Semaphore(0), []

    def wait_and_enter() -> None:
        with locked(file):
            entered.append(True)
            inside.acquire()

    file.parent.mkdir()
    waiting = threading.Thread(target=wait_and_enter)
    with locked(file):
        waiting.start()
        time.sleep(0.1)
        file.touch()
    file.unlink()
    while not entered:
        time.sleep(0.01)
    with pytest.raises(Timeout):
        FileLock(file.with_name(f"{file.name}.lock"), blocking=False).acquire()
    inside.release()
    waiting.join()
    assert capsys.readouterr().err == f"waiting for another process to finish {file}\n"


def test_existing_file_is_kept(site: Site, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"mine")
    download(site.url, file)
    assert file.read_bytes() == b"mine" and site.asked == []
    assert list(file.parent.iterdir()) == [file]


def test_broken_connection_is_resumed_where_it_stopped(site: Site, file: Path) -> None:
    part = download_module.WORTH_BYTES
    site.cut_after = [HALF, *[part] * 5]  # more breaks than retries, but each gets enough to be worth it
    download(site.url, file)
    assert file.read_bytes() == OLD
    assert site.asked == [None, *(f"bytes={HALF + part * i}-" for i in range(6))]


def test_a_server_that_breaks_off_after_a_few_bytes_each_time_is_given_up(site: Site, file: Path) -> None:
    site.cut_after = [100] * 50
    with pytest.raises(Unreachable, match="breaks off after 400 of"):
        download(site.url, file)
    assert len(site.asked) == 4


def test_gives_up_after_three_retries_without_progress(site: Site, file: Path) -> None:
    site.cut_after = [0] * 10
    with pytest.raises(Unreachable, match="breaks off"):
        download(site.url, file)
    assert len(site.asked) == 4


def test_next_run_asks_only_for_the_missing_bytes(site: Site, file: Path) -> None:
    leave_partial(site, file)
    download(site.url, file)
    assert file.read_bytes() == OLD
    assert site.asked == [f"bytes={HALF}-"]
    assert list(file.parent.iterdir()) == [file]


def test_server_that_ignores_ranges(site: Site, file: Path) -> None:
    leave_partial(site, file)
    site.ranges = False
    download(site.url, file)
    assert file.read_bytes() == OLD


def test_server_that_ignores_ranges_and_always_breaks_off_is_given_up(site: Site, file: Path) -> None:
    site.ranges, site.cut_after = False, [HALF] * 20
    with pytest.raises(Unreachable):
        download(site.url, file)
    assert len(site.asked) == 4


@pytest.mark.parametrize("heed_if_range", [True, False])
def test_remote_file_changed_between_attempts(site: Site, file: Path, heed_if_range: bool) -> None:
    leave_partial(site, file)
    site.content, site.tag, site.heed_if_range = NEW, '"v2"', heed_if_range
    download(site.url, file)
    assert file.read_bytes() == NEW
    assert site.asked == [f"bytes={HALF}-"] + [None] * (not heed_if_range)


def test_remote_file_without_a_tag_changed_its_size(site: Site, file: Path) -> None:
    site.tag = None
    leave_partial(site, file)
    site.content = NEW + b"more"
    download(site.url, file)
    assert file.read_bytes() == NEW + b"more"


def test_range_that_the_server_cannot_satisfy(site: Site, file: Path) -> None:
    leave_partial(site, file)
    site.content = b"short"
    download(site.url, file)
    assert file.read_bytes() == b"short"
    assert site.asked == [f"bytes={HALF}-", None]


def test_partial_file_of_another_address_or_unknown_origin_is_not_continued(site: Site, file: Path) -> None:
    leave_partial(site, file)
    download(site.url + "?mirror", file)
    assert site.asked == [None]
    other = file.with_name("other")
    other.with_name("other.part").write_bytes(b"who knows")
    download(site.url, other)
    assert other.read_bytes() == OLD


def test_complete_partial_file_needs_no_server(site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_verify", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        download(site.url, file, md5="0")
    monkeypatch.undo()
    download(site.url, file)
    assert file.read_bytes() == OLD and site.asked == [None]


def test_length_unknown(site: Site, file: Path) -> None:
    site.length = False
    download(site.url, file)
    assert file.read_bytes() == OLD


def test_wrong_checksum(site: Site, file: Path) -> None:
    found = hashlib.md5(OLD).hexdigest()
    with pytest.raises(DataError) as caught:
        download(site.url, file, md5="0" * 32)
    for part in (site.url, found, "0" * 32, "again"):
        assert part in str(caught.value)
    assert not isinstance(caught.value, Unreachable)
    assert not file.exists()
    assert [p.name for p in file.parent.iterdir()] == ["data.tar.gz.lock"]


def test_connection_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1.*refuses"):
            download(f"http://127.0.0.1:{unused.getsockname()[1]}/x", file)


def test_server_that_says_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unreachable, match="in time"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/x", file, timeout=0.1)


def test_unknown_server_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Unreachable, match=r"nowhere\.invalid.*cannot be resolved"):
        download("http://nowhere.invalid/x", file)


@pytest.mark.parametrize("url", ["http://", "http://[::1/x", "http://a b/x", "http://127.0.0.1:port/x"])
def test_nonsense_addresses(url: str, file: Path) -> None:
    with pytest.raises(Unreachable):
        download(url, file)


def test_other_schemes_are_refused(site: Site, file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for url in (secret.as_uri(), "ftp://example.org/x", "data:,x"):
        with pytest.raises(DataError, match="http"):
            download(url, file)
    for location, reason in ((secret.as_uri(), "HTTP 302"), ("ftp://127.0.0.1/x", "unknown url type")):
        site.status, site.location = 302, location
        with pytest.raises(Unreachable, match=reason):
            download(site.url, file)
    assert not file.exists()


def test_full_disk_keeps_what_has_come(site: Site, file: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))
    try:
        with pytest.raises(WriteError, match=r"data\.tar\.gz.*choose another folder") as caught:
            download(site.url, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(caught.value, Unreachable)
    download(site.url, file)
    assert site.asked == [None, f"bytes={HALF}-"]
    assert file.read_bytes() == OLD


def test_folder_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=str(tmp_path / "file")):
        download(site.url, tmp_path / "file" / "data.tar.gz")


def test_two_downloads_at_once_become_one(site: Site, file: Path) -> None:
    site.delay = 0.2
    threads = [threading.Thread(target=download, args=(site.url, file)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() == OLD
    assert site.asked == [None]
