"""What a data set must be, in types: map-style, its samples paired or not."""

from __future__ import annotations

from typing import Any, Literal, Protocol


class PairedDataset(Protocol):
    """A map-style data set. It does not crop, flip, scale or shuffle: that is done once for all data sets.

    It goes to the processes that load data, forked or pickled, and gives the same samples there and whenever it is
    made again. What it draws comes from the global random states of Python, NumPy or torch, which are seeded for
    each sample by (seed, epoch, index) and put back afterwards; it keeps no generator of its own between samples.

    Its factory may ask for ``split`` and says by its annotation which it has: Literal["train", "val", "test"] is
    `contracts.Split`. Without the parameter there is a train set alone; annotated with anything else, train and test.
    The val and the test set may be empty. Optional:

    - ``header(index)``: shapes without reading pixels (contracts.DatasetWithHeaders).
    - ``fingerprint()``: a short text that changes when the data does (`p2pkit.data.discovery.fingerprint_of`);
      without it, it is made of 64 of the samples, and of all files that are named.
    - ``reduced(sizes)``: the same data set, for ``transform.reduced_jpeg``: of the sides in ``sizes`` ("source",
      "target") images may be smaller by a whole factor, no smaller than the (height, width) there
      (`p2pkit.images.reading.read_image` takes it). Both images of a side-by-side file are reduced alike.
    - ``shards``: the numbers of pairs in files best read one after another, in their order. Training then shuffles
      shards, and pairs within about a thousand consecutive ones, instead of all pairs.
    - ``key(index)``, ``group(index)``: for ``[data] split``, keys without reading, and what stays in one set.
    - ``notices``: texts on what must not pass in silence; ``problems``: on what must be mended, which end a run.
    - ``target_ending``: that of its targets' files (".tif", say); translations become files of its format.
    - ``stored_as``: "left half" or "right half" where sources are halves of files; translation then takes such files.
    - ``classes``: {"window": (0, 85, 255)} where a single source is a label map: what each class is called, and the
      stored values of its pixels. Model files carry them, and a page that draws such maps offers them.
    - ``planes``: {"axis": 2, "neighbours": 1, "orientation": "RAS"} where sources are planes of volumes: the axis of
      the array that is walked, how many on each side are channels too, the orientation of the first volume or "".
      Translation then takes volumes.
    - ``source_files`` (of several sources those of all), ``target_files``, ``mask_files``: the paths of what it reads.
      A source in two sets is refused, or reported, and a target in two sets reported.
    """

    def __len__(self) -> int:
        """The number of pairs."""
        ...

    def __getitem__(self, index: int) -> Any:
        """The pair at ``index``: a Sample, a tuple (source, target), or a dict with these names, and "key", "mask".

        Images are as in :class:`p2pkit.contracts.Sample`; keys are unique, in all splits together, and made of the
        index where there are none. Raises DataError naming the file when it cannot be read.
        """
        ...


class UnpairedDataset(Protocol):
    """A data set whose sources and targets do not correspond: ``paired = False``, all else as in PairedDataset.

    In training the target of each source is drawn by (seed, epoch, place in the epoch), and each is cropped, flipped
    and augmented by itself. Beside ``header(index)`` it has ``target_header(index)``, with NO_IMAGE for the other side.
    """

    paired: Literal[False]
    targets: int
    """The number of targets."""

    def __len__(self) -> int:
        """The number of sources."""
        ...

    def __getitem__(self, index: int) -> Any:
        """A source: the image alone, or a Sample whose target is None."""
        ...

    def target(self, index: int) -> Any:
        """A target: the image alone, or a Sample whose source is None."""
        ...
