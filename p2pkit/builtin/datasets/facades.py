"""The CMP facades (Tylecek and Sara 2013) in the archive of pix2pix: 400 training pairs, 100 val, 106 test."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from p2pkit.builtin.datasets.procedural_facades import ProceduralFacades
from p2pkit.builtin.datasets.side_by_side import SideBySide
from p2pkit.contracts import Direction, Sample, SampleHeader, Split
from p2pkit.downloads.download import Unreachable, WrongChecksum, download
from p2pkit.downloads.extraction import extract
from p2pkit.errors import DataError

URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/facades.tar.gz"
MD5 = "e2e25dd517e9d15828416ab329da2854"


class Facades:
    """The facades in ``root``; when they are not there yet, their archive is downloaded and unpacked.

    Each image is a photo (A) beside its label map (B).

    Args:
        root: the folder of the data set, with the folders train, val and test.
        direction: "BtoA" translates label maps to photos, "AtoB" photos to label maps.
        url: where the archive is.
        md5: the archive's checksum; an empty one is not checked.
        when_unavailable: when the archive cannot be had: "fail", or draw facades ("procedural") and say so.
    """

    def __init__(
        self,
        split: Split,
        root: Path = Path("datasets/facades"),
        direction: Direction = "BtoA",
        url: str = URL,
        md5: str = MD5,
        when_unavailable: Literal["fail", "procedural"] = "fail",
    ) -> None:
        self.notices: list[str] = []
        self._pairs: SideBySide | ProceduralFacades
        unavailable = _fetch(root, url, md5)
        if unavailable is None:
            self._pairs = SideBySide(split, root, direction)
            self.notices += self._pairs.notices
        elif when_unavailable == "fail":
            raise unavailable
        else:
            self._pairs = ProceduralFacades(split, direction=direction)
            self.notices.append(
                f"the facades are not in {root} and their archive cannot be had ({unavailable}). This run uses "
                'PROCEDURAL FACADES instead, drawn by the program, as when_unavailable = "procedural" says'
            )

        self.target_ending = getattr(self._pairs, "target_ending", "")
        self.stored_as = getattr(self._pairs, "stored_as", "")
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


@cache
def _fetch(root: Path, url: str, md5: str) -> DataError | None:
    """Download the archive beside ``root`` and unpack it there, unless that is done; why it cannot be had, or None.

    An unreachable server is asked once a process, not once for each split.

    Raises:
        DataError: the archive is damaged.
        WriteError: the disk is full or may not be written to.
    """
    if root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir()):
        return None
    archive = root.with_name(root.name + ".tar.gz")
    try:
        download(url, archive, md5 or None)
    except (Unreachable, WrongChecksum) as error:
        return error
    extract(archive, root)
    archive.unlink(missing_ok=True)
    return None
