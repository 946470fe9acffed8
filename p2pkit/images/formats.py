"""Image formats: what one is, and those that plugins offer, looked up when a file is first read or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Protocol

from p2pkit.contracts import Shape
from p2pkit.errors import DataError, P2PKitError, PluginError, in_one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from p2pkit.components.host import PluginManager
    from p2pkit.components.registry import Registry
    from p2pkit.images.regions import Regions

KIND = "image_formats"
HEAD = 512
"""How many bytes at the beginning of a file a format may recognise it by."""
_LOOKING_UP = Lock()


class ChannelsOfPalette(int):
    """The channels in the shape of pixels that are colours of a palette: as numbers of classes they have 1."""


class ImageFormat(Protocol):
    """A kind of image file. What else it may have is in :class:`CompleteImageFormat`, each of it optional.

    One instance serves all files, in several threads at once.
    """

    endings: Sequence[str]
    """Of the files' names, each with its dot: ``(".pfm",)``. Folders are searched for them, in capitals too."""

    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The pixels as stored, [height, width] or [height, width, channels], from a stream at its beginning.

        Raises DataError for what a person can mend. Whatever else it raises is reported as damage, with the file.
        """
        ...


class CompleteImageFormat(ImageFormat, Protocol):
    """All that a format may have beside endings and ``read``."""

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with ``head`` (512 bytes, or all there are) is of this format, whatever its name.

        Without it the ending decides.
        """
        ...

    def read_reduced(self, stream: IO[bytes], least: tuple[int, int]) -> NDArray[Any]:
        """As ``read``, the whole image at a half or less of its height and width, no smaller than ``least`` (h, w).

        What has no such version, or none that is large enough, comes as by ``read``. Without this method all does.
        """
        ...

    def header(self, stream: IO[bytes]) -> Sequence[int]:
        """The shape that ``read`` gives, without reading the pixels; without it files are read whole."""
        ...

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        """Write pixels [height, width, channels] such that ``read`` gives the same; without it none are written."""
        ...

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        """Whether such pixels can be written; without it all can."""
        ...

    def write_like(self, stream: IO[bytes], pixels: NDArray[Any], source: Path) -> None:
        """As ``write``, with what of the file ``source`` is true of its translation too: its place on earth, say.

        ``source`` may be of any format.
        """
        ...

    def output_ending(self, targets: str, source: str) -> str:
        """The ending of a translation where the training targets have the ending ``targets``, one of this format.

        ``source`` is the ending of what is translated. Empty: a PNG or a TIFF is written. Without this method it is
        ``targets``, where the format writes.
        """
        ...

    def open_regions(self, file: Path) -> Regions | None:
        """The parts of an image larger than memory; None, or any error, where this file has to be read whole."""
        ...


class InstalledFormat:
    """A format with its name, and defaults for all that it leaves out.

    Raises:
        TypeError: it is not a format.
    """

    def __init__(self, name: str, made: Any, blame: str = "") -> None:
        self.name, self._made = name, made
        self.blame = blame
        """Whose format it is, as messages say behind what it raises; empty for p2pkit's own."""
        endings = [made.endings] if isinstance(made.endings, str) else list(made.endings)
        if not callable(getattr(made, "read", None)):
            raise TypeError("it has no read(stream)")
        if not endings or not all(isinstance(each, str) and each[:1] == "." != each for each in endings):
            raise TypeError(f"its endings are {made.endings!r}; expected some with their dots, such as ('.pfm',)")
        self.endings = tuple(each.lower() for each in endings)

    def has(self, method: str) -> bool:
        """Whether the format has an optional method."""
        return callable(getattr(self._made, method, None))

    def recognises(self, head: bytes) -> bool | None:
        """Whether a file begins as those of this format do; None if it knows them by their endings alone."""
        return bool(self._call("recognises", head)) if self.has("recognises") else None

    def read(self, stream: IO[bytes], least: tuple[int, int] | None = None) -> Any:
        """What the format reads; where it may be at reduced size, no smaller than ``least``, (height, width)."""
        stream.seek(0)
        if least is not None and self.has("read_reduced"):
            return self._call("read_reduced", stream, least)
        return self._call("read", stream)

    def header(self, stream: IO[bytes]) -> Shape:
        """The shape (height, width, channels) from the header, if the format can."""
        stream.seek(0)
        height, width, *channels = self._call("header", stream)
        if channels and isinstance(channels[0], ChannelsOfPalette):
            return int(height), int(width), channels[0]
        return int(height), int(width), int(channels[0]) if channels else 1

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        """Whether pixels of ``dtype`` with so many channels can be written."""
        return self.has("write") and (not self.has("holds") or bool(self._call("holds", dtype, channels)))

    def write(self, stream: IO[bytes], pixels: NDArray[Any], source: Path | None) -> None:
        """Write pixels [height, width, channels], with what describes ``source`` if the format takes that over."""
        if source is not None and self.has("write_like"):
            self._call("write_like", stream, pixels, source)
        else:
            self._call("write", stream, pixels)

    def output_ending(self, targets: str, source: str) -> str:
        """The ending of a translation of a file with the ending ``source``; empty where the format has none for it."""
        if self.has("output_ending"):
            return str(self._call("output_ending", targets, source))
        return targets if self.has("write") else ""

    def open_regions(self, file: Path) -> Regions | None:
        """The parts of an image, where the format can read them."""
        regions: Regions | None = self._made.open_regions(file) if self.has("open_regions") else None
        return regions

    def _call(self, method: str, *arguments: Any) -> Any:
        """What a method gives; whatever a plugin's raises, but for the system's errors, names the plugin."""
        try:
            return getattr(self._made, method)(*arguments)
        except Exception as error:
            if not self.blame or isinstance(error, P2PKitError) or getattr(error, "errno", None):
                raise
            reads = method in ("read", "read_reduced", "header")
            damaged = "the image cannot be read, it is damaged or incomplete: " if reads else ""
            raise DataError(f"{damaged}{in_one_line(error)} in {method} of {self.blame}") from error


class Formats:
    """The formats of a process, by ending and by what they recognise. One that cannot be used is left out."""

    def __init__(self, offers: Registry) -> None:
        self.failures = offers.failures
        """Why some plugin's formats are not here."""
        self._all: list[InstalledFormat] = []
        self._by_ending: dict[str, list[tuple[InstalledFormat, str]]] = {}
        for offer in offers.offers():
            called = f"image format {offer.name!r} of {offer.origin}"
            try:
                found = InstalledFormat(offer.name, offer.factory(), "" if offer.distribution == "p2pkit" else called)
            except Exception as error:  # whatever a stranger's factory may raise
                self.failures.append(f"the {called} cannot be used: {in_one_line(error)}")
                continue
            self._all.append(found)
            for each in found.endings:
                self._by_ending.setdefault(each, []).append((found, offer.origin))
        self.endings = sorted(self._by_ending)
        self._longest_first = sorted(self.endings, key=len, reverse=True)

    def ending(self, name: str) -> str:
        """The ending of a file's name in lower case: that of ``scan.nii.gz`` is ``.nii.gz``."""
        name = Path(name).name.lower()
        known = (each for each in self._longest_first if name.endswith(each) and name != each)
        return next(known, "") or Path(name).suffix

    def with_ending(self, ending: str) -> InstalledFormat | None:
        """The format whose files end so.

        Raises:
            PluginError: two plugins offer one.
        """
        found = self._by_ending.get(ending, [])
        if len(found) > 1:
            origins = " and ".join(self.offered_by(ending))
            raise PluginError(
                f"{KIND}: the ending {ending!r} is offered by {origins}; uninstall one of them or use --no-plugin"
            )
        return found[0][0] if found else None

    def offered_by(self, ending: str) -> list[str]:
        """The distributions, with their versions, of all formats whose files end so."""
        return [origin for _, origin in self._by_ending.get(ending, [])]

    def is_image(self, name: str) -> bool:
        """Whether a file called ``name`` is looked at as an image; raises PluginError as :meth:`with_ending` does."""
        return self.with_ending(self.ending(name)) is not None

    def writes(self, ending: str) -> bool:
        """Whether some format writes files that end so."""
        return any(found.has("write") for found, _ in self._by_ending.get(ending, []))

    def of(self, name: str, head: bytes) -> InstalledFormat | None:
        """The format of a file called ``name`` that begins with ``head``.

        That of its ending, unless this one knows its files by how they begin, and not this file; then the first that
        recognises it.
        """
        by_ending = self.with_ending(self.ending(name))
        if by_ending is not None and by_ending.recognises(head) is not False:
            return by_ending
        return next((each for each in self._all if each is not by_ending and each.recognises(head)), None)

    def failed(self) -> str:
        """What messages say of formats that are not here, a line each; empty if all are."""
        return "".join(f"\n  a plugin that might know it failed: {failure}" for failure in self.failures)


plugins: Callable[[], PluginManager]
"""Gives the plugins of this process. p2pkit itself sets it when it is imported: nothing here looks a name up."""
_found: tuple[PluginManager, Formats] | None = None


def installed() -> Formats:
    """The formats of this process."""
    global _found
    current, found = plugins(), _found  # noqa: F821 - set when p2pkit is imported
    if found is None or found[0] is not current:
        with _LOOKING_UP:  # files are read in threads, and hooks are called once
            found = _found
            if found is None or found[0] is not current:
                found = _found = current, Formats(current.registry(KIND))
    return found[1]
