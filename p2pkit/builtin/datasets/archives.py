"""The archives of pairs that the authors of pix2pix give out (Isola et al. 2017, section 6.2)."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from p2pkit.builtin.datasets.facade_drawing.palette import CLASSES
from p2pkit.builtin.datasets.procedural_facades import ProceduralFacades
from p2pkit.builtin.datasets.side_by_side import SideBySide
from p2pkit.contracts import Direction, Sample, SampleHeader, Split
from p2pkit.downloads.download import Unreachable, WrongChecksum, download, downloads_allowed
from p2pkit.downloads.extraction import extract, is_filled
from p2pkit.errors import DataError, MissingData, RecipeError, WriteError
from p2pkit.utils.progress import print_line

SERVER = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
MB = 10**6


class Archive(NamedTuple):
    """What is known of an archive. None of the sizes and checksums has been verified against the server."""

    megabytes: int
    """About; unpacked it is as large again, since it holds JPEGs."""
    direction: Direction
    """The paper's, of the task that has the archive's name."""
    md5: str = ""
    """Empty where nobody has published one."""
    size: tuple[int, int] = (256, 256)
    """Height and width of A and of B."""


ARCHIVES = {
    "facades": Archive(29, "BtoA", "e2e25dd517e9d15828416ab329da2854"),
    "maps": Archive(239, "AtoB", "e5f65d26eb288457f5ac056deb94d154", (600, 600)),
    "edges2shoes": Archive(2000, "AtoB"),
    "edges2handbags": Archive(8000, "AtoB"),
    "night2day": Archive(1900, "AtoB"),
}


class ArchivePairs:
    """Pairs in ``root``, whose archive is downloaded and unpacked there when they are not there yet.

    facades: 400 pairs to train on, 100 val, 106 test; 29 MB; photos (A) and label maps (B) (Tylecek and Sara 2013).

    maps: 1096 pairs, 1098 val; 239 MB; aerial photos (A) and maps (B), 600x600.

    edges2shoes: 49825 pairs, 200 val; 2.0 GB; edges, dark on white (A), and photos (B) (Yu and Grauman 2014).

    edges2handbags: 138567 pairs, 200 val; 8.0 GB; edges, dark on white (A), and photos (B) (Zhu et al. 2016).

    night2day: 17823 pairs; 1.9 GB; webcams by night (A) and by day (B) (Laffont et al. 2014).

    On the disk twice as much is needed until the archive is unpacked.

    Args:
        archive: which one.
        root: the folder of the data set, with the folders train, val and perhaps test; datasets/ARCHIVE by default.
        direction: "BtoA" translates B to A, "AtoB" A to B; by default label maps to photos in facades, and A to B in
            the others.
        url: where the archive is; on the server of the paper's authors by default.
        md5: the archive's checksum, by default the one that is known of it, if any; an empty one is not checked.
        when_unavailable: when the archive cannot be had: "fail", or, of facades, draw some ("procedural") and say so.
    """

    def __init__(
        self,
        split: Split,
        archive: Literal["facades", "maps", "edges2shoes", "edges2handbags", "night2day"],
        root: Path | None = None,
        direction: Direction | None = None,
        url: str | None = None,
        md5: str | None = None,
        when_unavailable: Literal["fail", "procedural"] = "fail",
    ) -> None:
        if when_unavailable == "procedural" and archive != "facades":
            raise RecipeError(
                f'data.when_unavailable: found "procedural", but p2pkit draws facades alone, not {archive}'
            )
        known, root = ARCHIVES[archive], root or Path("datasets") / archive
        url, md5 = url or f"{SERVER}/{archive}.tar.gz", known.md5 if md5 is None else md5
        direction = direction or known.direction
        self.notices: list[str] = []
        self._pairs: SideBySide | ProceduralFacades
        missing = _missing(archive, root, url, md5)
        if missing is None:
            self._pairs = SideBySide(split, root, direction)
            self.notices += self._pairs.notices
        elif when_unavailable == "fail":
            raise missing
        else:
            self._pairs = ProceduralFacades(split, direction=direction)
            self.notices.append(
                f"{missing} Instead of them these are PROCEDURAL FACADES, drawn by the program, as when_unavailable = "
                '"procedural" says'
            )
        self.target_ending = getattr(self._pairs, "target_ending", "")
        self.stored_as = getattr(self._pairs, "stored_as", "")
        self.classes = CLASSES if archive == "facades" and direction == "BtoA" else {}
        self.source_files = getattr(self._pairs, "source_files", ())

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return self._pairs[index]

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``."""
        return self._pairs.header(index)

    def fingerprint(self) -> str:
        """The fingerprint of the pairs that are used: real ones or drawn ones."""
        return self._pairs.fingerprint()


def _missing(archive: str, root: Path, url: str, md5: str) -> MissingData | None:
    """Have the pairs of an archive in ``root``; where that cannot be, what is missing and how to get it."""
    if is_filled(root):
        return None
    if os.path.lexists(root) and not root.is_dir():
        raise DataError(f"{root}: the {archive} go into this folder, and it is none; move it away, or set data.root")
    known = ARCHIVES[archive]
    stands_in = SampleHeader((*known.size, 3), (*known.size, 3), archive)
    if not downloads_allowed():
        remedy = "A run downloads them first, and so does p2pkit data fetch RECIPE."
        return MissingData(f"the {archive} are not in {root}, {_size(known)} to download", remedy, stands_in)
    unavailable = _fetch(archive, root, url, md5)
    if unavailable is None:
        return None
    missing = f"the {archive} are not in {root} and their archive cannot be had ({unavailable})"
    return MissingData(missing, f"Try again later, or get {url} in another way and unpack it as {root}.", stands_in)


@cache
def _fetch(archive: str, root: Path, url: str, md5: str) -> DataError | None:
    """Download the archive beside ``root`` and unpack it there; why it cannot be had, or None.

    An unreachable server is asked once a process, not once for each split.

    Raises:
        DataError: the archive is damaged.
        WriteError: the disk is full, has too little space for it, or may not be written to.
    """
    file = root.with_name(root.name + ".tar.gz")
    if url.startswith(SERVER):  # of another one's size nothing is known before it answers
        known = ARCHIVES[archive]
        _refuse_little_space(file, known)
        print_line(f"{archive}: {_size(known)} to download, about as much again when it is unpacked in {root}")
    try:
        download(url, file, md5 or None)
    except (Unreachable, WrongChecksum) as error:
        return error
    extract(file, root)
    file.unlink(missing_ok=True)
    return None


def _refuse_little_space(file: Path, known: Archive) -> None:
    """Raise WriteError when the disk of ``file`` does not hold the archive, or what is left of it, and its content."""
    part = file.with_name(f"{file.name}.part")
    there = sum(each.stat().st_size for each in (file, part) if each.is_file())
    needed = 2 * known.megabytes * MB - there
    place = next(folder for folder in file.absolute().parents if folder.is_dir())
    if (free := shutil.disk_usage(place).free) < needed:
        raise WriteError(
            f"{file}: the archive and what is unpacked of it take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free there; free some space, or set data.root to a folder on another disk"
        )


def _size(known: Archive) -> str:
    return f"{known.megabytes} MB" if known.megabytes < 1000 else f"{known.megabytes / 1000:.1f} GB"
