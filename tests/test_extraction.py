"""Unpacking archives that misbehave."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pkit.downloads import extraction
from p2pkit.downloads.extraction import extract
from p2pkit.errors import DataError, WriteError
from p2pkit.utils.opening import VARIABLE

FILES = {"facades/train/1.jpg": b"one", "facades/train/2.jpg": b"two", "facades/test/1.jpg": b"three"}


def tar_file(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4700
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def zip_file(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            zipped.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("facades/odd")
    info.type, info.linkname = kind, target
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, *named: str, limit: str = "") -> None:
    """Assert that ``archive`` is refused with a message that names it, and that nothing is left of the attempt."""
    around = archive.parent.parent
    before = {p for p in around.rglob("*") if p.suffix != ".lock"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError) as caught:
        patch.setenv(VARIABLE, limit)
        extract(archive, archive.parent / "out")
    for part in (str(archive), *named):
        assert part in str(caught.value)
    assert {p for p in around.rglob("*") if p.suffix != ".lock"} == before


def _extract_without_filter(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, set_attrs: bool = True, *, numeric_owner: bool = False
) -> None:
    _extract(tar, member, path, set_attrs, numeric_owner=numeric_owner, filter="fully_trusted")


_extract = tarfile.TarFile.extract


@pytest.fixture(autouse=True, params=["this Python", "Python 3.11.3"])
def tarfile_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All holds without tarfile's own filter, which Python 3.11 has from 3.11.4 on."""
    if request.param == "Python 3.11.3":
        monkeypatch.setattr(extraction, "_FILTER", {})
        monkeypatch.setattr(tarfile.TarFile, "extract", _extract_without_filter)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    return place


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.tar": tar_file, "a.tar.gz": tar_file, "a.tgz": tar_file, "A.ZIP": zip_file,
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_top_folder_is_stripped(name: str, place: Path) -> None:
    archive = MAKERS[name](place / name, FILES)
    extract(archive, place / "out")
    assert contents(place / "out") == {name.removeprefix("facades/"): content for name, content in FILES.items()}
    assert {p.name for p in place.iterdir()} == {name, "out"}


@pytest.mark.parametrize("name", MAKERS)
def test_several_top_folders_are_kept(name: str, place: Path) -> None:
    files = {"./train/1.jpg": b"one", "test/1.jpg": b"two"}
    extract(MAKERS[name](place / name, files), place / "deep" / "out")
    assert contents(place / "deep" / "out") == {"train/1.jpg": b"one", "test/1.jpg": b"two"}


def test_one_file_is_no_top_folder(place: Path) -> None:
    extract(zip_file(place / "a.zip", {"1.jpg": b"one"}), place / "out")
    assert contents(place / "out") == {"1.jpg": b"one"}


@pytest.mark.parametrize("name", MAKERS)
def test_backslashes_separate_folders(name: str, place: Path) -> None:
    extract(MAKERS[name](place / name, {"train\\1.jpg": b"one", "test\\1.jpg": b"two"}), place / "out")
    assert contents(place / "out") == {"train/1.jpg": b"one", "test/1.jpg": b"two"}


def test_members_of_the_folder_itself(place: Path) -> None:
    dot = tarfile.TarInfo("./")
    dot.type = tarfile.DIRTYPE
    extract(tar_file(place / "a.tar", {"./1.jpg": b"one"}, dot), place / "out")
    assert contents(place / "out") == {"1.jpg": b"one"}


def test_negative_sizes(place: Path) -> None:
    info = tarfile.TarInfo("facades/odd")
    info.pax_headers = {"size": "-512"}
    refused(tar_file(place / "a.tar", FILES, info))


def test_empty_folders_and_modes(place: Path) -> None:
    folder = tarfile.TarInfo("facades/val")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o000
    extract(tar_file(place / "a.tar", FILES, folder), place / "out")
    assert (place / "out/val").is_dir()
    assert not (place / "out/train/1.jpg").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)
    assert (place / "out/val").stat().st_mode & stat.S_IWUSR


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("member", ["../x", "facades/../../x", "/x", "C:/x", "C:x", "..\\x", "\\x"])
def test_members_that_escape(name: str, member: str, place: Path) -> None:
    refused(MAKERS[name](place / name, {**FILES, member: b"x"}), repr(member))


SPARSE = special(tarfile.GNUTYPE_SPARSE)
"""Its map may have more bytes written than its size says."""


@pytest.mark.parametrize(
    "info",
    [
        special(tarfile.SYMTYPE, "/etc"), special(tarfile.SYMTYPE, "train"),
        special(tarfile.LNKTYPE, "facades/train/1.jpg"), special(tarfile.CHRTYPE), special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE), SPARSE,
    ],
)  # fmt: skip
def test_links_devices_and_sparse_files(info: tarfile.TarInfo, place: Path) -> None:
    refused(tar_file(place / "a.tar.gz", FILES, info), "'facades/odd'", "a link, a device")


def test_links_and_devices_in_a_zip(place: Path) -> None:
    refused(zip_file(place / "a.zip", {"link": b"/etc"}, stat.S_IFLNK | 0o777), "'link'", "a link, a device")
    refused(zip_file(place / "b.zip", {"device": b""}, stat.S_IFCHR), "'device'", "a link, a device")


@pytest.mark.parametrize("name", MAKERS)
def test_bombs(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = MAKERS[name](place / name, {"small": b"x" * 600, "big": b"\0" * 5_000_000})
    refused(archive, "big", "unpacked_bytes is 1MB", "--limit unpacked_bytes=6MB", limit="unpacked_bytes=1MB")
    refused(archive, "big", "unpacked_bytes is 5MB", limit="unpacked_bytes=5000500")  # all members together
    refused(archive, "big", "unpacked_files is 1", "--limit unpacked_files=2", limit="unpacked_files=1")
    monkeypatch.setenv(VARIABLE, "unpacked_bytes=5000600 unpacked_files=2")
    extract(archive, place / "out")


def test_zip_that_lies_about_sizes(place: Path) -> None:
    archive = zip_file(place / "a.zip", {"big": b"\0" * 5_000_000})
    size = (5_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, (10).to_bytes(4, "little")))
    refused(archive, limit="unpacked_bytes=1MB")


def test_tar_header_that_would_fill_the_memory(place: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    (place / "a.tar").write_bytes(info.tobuf() + bytes(2048))
    refused(place / "a.tar", "header of more than 256 kB")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.99])
def test_truncated(name: str, kept: float, place: Path) -> None:
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256)) * 4
    archive = MAKERS[name](place / name, {f"{i}.jpg": noise[i:] for i in range(4)})
    whole = archive.read_bytes().rstrip(b"\0") if archive.suffix == ".tar" else archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * kept)])
    refused(archive, "damaged, cut short")


def test_truncated_between_two_members(place: Path) -> None:
    archive = tar_file(place / "a.tar", FILES)
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, "damaged, cut short")


def test_damaged_header_is_not_taken_for_the_end(place: Path) -> None:
    archive = tar_file(place / "a.tar", FILES)
    damaged = bytearray(archive.read_bytes())
    damaged[1024 + 5] ^= 1
    archive.write_bytes(damaged)
    refused(archive, "damaged, cut short")


def test_damaged_checksum_of_gzip(place: Path) -> None:
    archive = tar_file(place / "a.tgz", FILES)
    damaged = bytearray(archive.read_bytes())
    damaged[-8] ^= 1
    archive.write_bytes(damaged)
    refused(archive, "CRC")


def test_what_follows_the_end_of_a_tar(place: Path) -> None:
    tar = tar_file(place / "a.tar", FILES).read_bytes()
    (place / "b.tar.gz").write_bytes(gzip.compress(tar + bytes(2**24)))
    refused(place / "b.tar.gz", "end mark")


def test_damaged_content_of_a_zip(place: Path) -> None:
    archive = place / "a.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("1.jpg", b"content")
    archive.write_bytes(archive.read_bytes().replace(b"content", b"c0ntent"))
    refused(archive, "1.jpg")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_of_a_zip(method: int, place: Path) -> None:
    archive = place / "a.zip"
    with zipfile.ZipFile(archive, "w", method) as zipped:
        zipped.writestr("1.jpg", hashlib.sha256().digest() * 99)
    damaged = bytearray(archive.read_bytes())
    damaged[44:60] = bytes(16)
    archive.write_bytes(damaged)
    refused(archive, "damaged, cut short")


def test_file_that_is_also_a_folder(place: Path) -> None:
    refused(tar_file(place / "a.tar", {"a/b": b"x", "a": b"x"}), "Is a directory")
    refused(zip_file(place / "b.zip", {"a": b"x", "a/b": b"x"}), "Not a directory")


def test_not_an_archive(place: Path) -> None:
    for name in ("a.tar", "a.tar.gz", "a.zip"):
        (place / name).write_text("<html>Not here</html>" * 100)
        refused(place / name, "not what its name says")
    (place / "a.rar").write_text("")
    refused(place / "a.rar", ".tar.gz")
    refused(place / "missing.tar", "no archive")
    refused(tar_file(place / "empty.tar", {}), "empty")


def test_stale_temporary_folder_is_removed(place: Path) -> None:
    (place / "out.unpacking" / "train").mkdir(parents=True)
    (place / "out.unpacking" / "train" / "half.jpg").write_text("")
    extract(tar_file(place / "a.tar", FILES), place / "out")
    assert "train/half.jpg" not in contents(place / "out")
    assert not (place / "out.unpacking").exists()


def test_existing_folder_is_kept_and_an_empty_one_filled(place: Path) -> None:
    archive = tar_file(place / "a.tar", FILES)
    (place / "out").mkdir()
    extract(archive, place / "out")
    assert len(contents(place / "out")) == 3
    (place / "out" / "mine").write_text("mine")
    extract(zip_file(place / "b.zip", {"other": b"x"}), place / "out")
    assert len(contents(place / "out")) == 4


def test_disk_that_cannot_take_it(place: Path) -> None:
    archive = tar_file(place / "a.tar", {"a" * 300: b"x"})
    with pytest.raises(WriteError, match="cannot write"):
        extract(archive, place / "out")
    assert not (place / "out").exists() and not (place / "out.unpacking").exists()
