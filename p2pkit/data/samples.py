"""One set of a data set as p2pkit reads it, whatever the data set gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import IterableDataset

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.errors import DataError, P2PKitError, RecipeError, counted, in_one_line, is_out_of_memory
from p2pkit.images.pixels import LARGEST_CHANNELS_FIRST, SMALLEST_SIDE, channel_by_channel
from p2pkit.settings import LoaderCache
from p2pkit.utils.seeds import derived, following_draws, seeded

if TYPE_CHECKING:
    from p2pkit.data.adapter import Kind
    from p2pkit.data.sample_cache import DiskCache
    from p2pkit.images.channels import Taking


class Samples:
    """One set of a data set as p2pkit reads it, whatever its author has made (contracts.PairedDataset and its kin).

    ``[index]`` is a Sample of arrays [H, W, C]. An unpaired data set is two of these, the sources and beside them, as
    ``targets``, the targets; a sample of theirs has one side alone. ``header(index)`` and ``shards`` are there where
    the data set has them.
    """

    keeps = True
    """Whether a cache keeps what is read from now on."""

    def __init__(
        self, dataset: Any, origin: str, split: Split, seed: int = 0, kind: Kind = "pair",
        cache: LoaderCache = "none", taking: Mapping[str, Taking] | None = None, whole: bool = False, made_by: str = "",
    ) -> None:  # fmt: skip
        """``origin`` is what messages call the data set, ``seed`` the run's; ``cache`` says where what has been
        read is kept, and ``made_by`` what samples depend on beside their data, for a cache that outlives the process.

        ``taking`` is what is taken of the channels of files, by side; several sources come in the order that it has
        them in, with what it says of "source" for those that it does not name. ``whole``: the fingerprint is of whole
        files, or of all samples where no files are named.

        Raises:
            RecipeError: it is not a map-style data set, it is unpaired without targets, or its shards do not hold its
                samples.
        """
        self.origin, self.split, self.notices = origin, split, getattr(dataset, "notices", ())
        self.target_ending, self.stored_as = getattr(dataset, "target_ending", ""), getattr(dataset, "stored_as", "")
        self.problems, self.planes = getattr(dataset, "problems", ()), getattr(dataset, "planes", None)
        self.classes: Any = getattr(dataset, "classes", None)
        self.targets: Samples | None = None
        """The targets of an unpaired data set; None for pairs."""
        self.names_files = hasattr(getattr(dataset, "whole_set", dataset), "source_files")
        self._dataset, self._seed, self._kind, self._whole, self._fingerprint = dataset, seed, kind, whole, ""
        self.taking = taking or {}
        self._kept: dict[int, Sample] | None = {} if cache in ("memory", "device") else None
        self._disk: DiskCache | None = None
        self._disk_opened, self._drawn_once, self._on_disk = False, cache != "none", ""
        """The last is what samples on a disk are made by; empty where none are kept."""
        if cache == "disk" and (self.names_files or callable(getattr(dataset, "fingerprint", None))):
            self._on_disk = made_by or origin
        elif cache == "disk" and kind == "pair":
            untold = f"{origin} has neither fingerprint() nor source_files, which tell when its samples are others"
            self.notices = [*self.notices, f'loader.cache = "disk": {untold}; none are kept']
        if kind == "pair" and _is_unpaired(dataset, origin):
            self._kind = "source"
            self.targets = Samples(dataset, origin, split, seed, "target", cache, None, whole, made_by)
        of_targets = kind == "target"
        self._read: Callable[[int], Any] = dataset.target if of_targets else dataset.__getitem__
        self._length = int(dataset.targets if of_targets else self._call("len()", dataset.__len__))
        read_header = getattr(dataset, "target_header" if of_targets else "header", None)
        if callable(read_header) or not self._length:
            self._read_header: Any = read_header
            self.header = self._checked_header
        if self.targets is None and not of_targets and hasattr(dataset, "shards"):
            self.shards = dataset.shards
            if sum(self.shards) != self._length:
                raise RecipeError(
                    f"{origin}: its shards hold {counted(sum(self.shards), 'sample')}, but len() is {self._length}"
                )

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        # what has been read is not sent to a worker
        return {**vars(self), "_kept": None if self._kept is None else {}}

    def why_whole(self, of_one_size: bool) -> str:
        """Why images cannot be read at reduced size, as messages say it; empty where they can (see :meth:`reduced`)."""
        from p2pkit.images.names import ending
        from p2pkit.images.pictures import JPEG

        if not callable(getattr(self._dataset, "reduced", None)):
            return f"{self.origin} reads them itself"
        sources = getattr(getattr(self._dataset, "whole_set", self._dataset), "source_files", ())
        source, target = ending(Path(sources[0])) if sources else self.target_ending, self.target_ending
        alike = not target or source == target or {source, target} <= {*JPEG.endings}
        if of_one_size and self.targets is None and not alike:
            return f"sources are {source}, targets {target}, and with keep_aspect they have to stay of one size"
        return ""

    def reduced(self, sizes: Mapping[str, tuple[int, int]], of_one_size: bool = False) -> Samples:
        """The same set, with images that may be read at reduced size, no smaller than ``sizes`` has it for a side.

        Headers stay those of whole images. Pairs that are to be ``of_one_size`` are read whole where they would not be.
        """
        if not sizes or self.why_whole(of_one_size):
            for each in filter(None, (self, self.targets)):
                each.keeps = True
            return self
        found, dataset = copy(self), self._call("reduced()", self._dataset.reduced, sizes)
        found._dataset, found._read = dataset, dataset.target if self._kind == "target" else dataset.__getitem__
        if of_one_size and self._kind == "pair":
            found._read = partial(_of_one_size, found._read, self._read, getattr(self, "header", None))
        found.keeps, found._kept = True, None if self._kept is None else {}
        found._disk, found._disk_opened = None, False
        found._on_disk = self._on_disk and f"{self._on_disk} {sizes} {of_one_size}"
        found.targets = self.targets and self.targets.reduced(sizes)
        return found

    def read(self, index: int, epoch: int = 0) -> Sample:
        """The sample at ``index``, as a data set that draws has it in ``epoch``: a function of seed, epoch and index.

        With a cache it is that of the first epoch, whoever comes to it first, and when.

        Raises:
            DataError: it cannot be read, or is not of a form that p2pkit takes.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"there is no sample {index} among {self._length}")
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        disk, own = self._opened_disk(), derived(self._seed, self._kind, 0 if self._drawn_once else epoch, index)
        if disk is not None and (found := disk.get(index, self._seed)) is not None:
            return found
        with seeded(own):
            given = self._call(f"[{index}]", self._read, index)
            following = following_draws() if disk is not None else None
        sample = self._as_sample(given, index)
        if self._kept is not None and self.keeps:
            arrays: dict[str, Any] = {side: getattr(sample, side) for side in ("source", "target")}
            arrays = {side: channel_by_channel(each) for side, each in arrays.items() if isinstance(each, np.ndarray)}
            sample = self._kept[index] = sample._replace(**arrays)
        if disk is not None:
            with seeded(own):
                disk.put(index, self._seed, sample, drawn=following != following_draws())
        return sample

    __getitem__ = read

    def _as_sample(self, given: Any, index: int) -> Sample:
        """What the data set has ``given`` at ``index`` as p2pkit takes it; raises DataError."""
        ready = type(given) is Sample and self._kind == "pair" and given.key.isascii() and bool(given.key)
        ready = ready and given.mask is None
        for image in given[:2] if ready else ():
            ready &= isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype.kind in "iufb" and image.size > 0
            # masks, and channels that come first, are refused by as_sample
            ready = ready and not isinstance(image, np.ma.MaskedArray)
            ready = ready and (image.shape[0] > LARGEST_CHANNELS_FIRST or image.shape[2] < SMALLEST_SIDE)
        sample: Sample = given
        if not ready:
            from p2pkit.data.adapter import as_sample

            sample = as_sample(given, self._kind, self._named(index), self._placed(f"[{index}]"))
        if self.taking or isinstance(sample.source, dict):
            from p2pkit.images.channels import arranged

            sample = arranged(sample, self.taking)
        return sample

    def _opened_disk(self) -> DiskCache | None:
        """What keeps the samples on a disk, under a name that tells what they are made of; None where nothing does."""
        if self._on_disk and self.keeps and not self._disk_opened:
            from p2pkit.data.sample_cache import DiskCache

            self._disk_opened = True  # of data without a fingerprint samples are looked at, without the cache
            what = f"{self.split} {self._kind} {self.taking}", self.fingerprint(), self.files_stamp
            self._disk = DiskCache.of([self._on_disk, *what])
        return self._disk

    def draws(self) -> bool:
        """Whether the data set draws from the global random states where it gives a sample, the first for one."""
        following = []
        for reading in (True, False):
            with seeded(0):
                if reading and self._length:
                    with suppress(DataError):
                        self._call("[0]", self._read, 0)
                following.append(following_draws())
        return following[0] != following[1] or (self.targets is not None and self.targets.draws())

    def fingerprint(self) -> str:
        """A text that changes when the set does, its targets too: the data set's own, or one of its content.

        Raises:
            RecipeError: the data set's own is not a text.
        """
        if self._fingerprint:
            return self._fingerprint
        own = getattr(self._dataset, "fingerprint", None)
        if callable(own):
            self._fingerprint = found = self._call("fingerprint()", own)
            if not isinstance(found, str) or not found:
                raise RecipeError(f"{self.origin}: its fingerprint() gives {found!r}, expected a text")
        if self._whole or not callable(own):
            self._fingerprint = f"{self._fingerprint} {self._fingerprint_of_content(own=callable(own))}".strip()
        return self._fingerprint

    def _fingerprint_of_content(self, own: bool) -> str:
        """A fingerprint of files and samples, beside the data set's ``own`` where it has one."""
        from p2pkit.data.adapter import LOOKED_AT, fingerprint_of_content
        from p2pkit.data.fingerprints import of_named_files

        files = of_named_files(self._dataset, self._whole)
        if files and own:
            return files
        targets = f" {self.targets.fingerprint()}" if self.targets else ""
        looked_at = self._length if self._whole and not files else LOOKED_AT
        return f"{fingerprint_of_content(self.__getitem__, self._length, looked_at)} {files}".strip() + targets

    @property
    def files_stamp(self) -> str:
        """A text that changes when one of the files that the data set names is written, even as it was."""
        from p2pkit.data.fingerprints import stamp

        return stamp(self._dataset)

    def _checked_header(self, index: int) -> SampleHeader:
        """The header at ``index``; raises DataError where it cannot be read, or is not one."""
        given = self._call(f"header({index})", self._read_header, index)
        match given:
            case SampleHeader((int(), int(), int()), (int(), int(), int()), str(key)) if self._kind == "pair":
                if key.isascii() and not self.taking and not given.parts:
                    return given
        from p2pkit.data.adapter import as_header
        from p2pkit.images.channels import arranged_header

        header = as_header(given, self._kind, self._named(index), self._placed(f"header({index})"))
        return arranged_header(header, self.taking)

    def _named(self, index: int) -> str:
        """What a sample without a key is called."""
        return f"{self.split}_{'' if self._kind == 'pair' else f'{self._kind}_'}{index:05}"

    def _call(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """What the data set's ``method`` gives; an exception is a DataError that names the data set."""
        try:
            return method(*arguments)
        except Exception as error:
            if isinstance(error, P2PKitError) or is_out_of_memory(error):
                raise
            raise DataError(f"{self._placed(what)} fails: {in_one_line(error)}") from error

    def _placed(self, what: str) -> str:
        """What messages call a part of the set."""
        return f"{self.origin}: {what} of its {self.split} {self._kind + 's' if self._kind != 'pair' else 'set'}"


def _is_unpaired(dataset: Any, origin: str) -> bool:
    """Whether sources and targets of a data set are counted apart; RecipeError where it cannot be read by index."""
    one_by_one = hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)
    if not one_by_one or not hasattr(dataset, "__len__"):
        lacking = f"{origin} makes a {type(dataset).__name__}, which lacks len() or [index]"
        raise RecipeError(f"{lacking}; expected a map-style data set")
    if getattr(dataset, "paired", True) is not False:
        return False
    if not callable(getattr(dataset, "target", None)) or not isinstance(getattr(dataset, "targets", None), int):
        raise RecipeError(f"{origin} has paired = False, but not both target(index) and targets, their number")
    return True


def _of_one_size(
    read: Callable[[int], Any], read_whole: Callable[[int], Any], header_of: Callable[[int], SampleHeader] | None,
    index: int,
) -> Any:  # fmt: skip
    """The pair that ``read`` gives, or ``read_whole`` where its two images are not of one size, or not by nature."""
    from p2pkit.data.adapter import as_sample

    header = as_sample(pair := read(index), "pair", "", f"[{index}]").header
    headers = [header] if header_of is None else [header, header_of(index)]
    return pair if all(each.source[:2] == each.target[:2] for each in headers) else read_whole(index)
