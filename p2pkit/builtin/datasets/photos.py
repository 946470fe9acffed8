"""Photos, each of which is source and target of a pair: what differs between them the recipe says."""

from __future__ import annotations

from pathlib import Path

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.data.discovery import beside_splits, fingerprint_of, key_of, refuse_splits_among, split_folder
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending
from p2pkit.images.reading import image_header, read_image


class Photos:
    """Any folder of photos, each of which is a pair by itself: its source and its target are the photo.

    What is learnt is what the recipe takes of it: ``channels = "lab_L"`` below [source] and ``channels = "lab_ab"``
    below [target] give colours to gray photos, augmentations of the source remove what they do. There may be folders
    train, val and test, also called training, validation, valid, dev and testing, in any case; a ``root`` without these
    holds training photos only.

    Args:
        root: the folder of the photos, and of folders of photos.
    """

    def __init__(self, split: Split, root: Path) -> None:
        self._root = root
        self.source_files: list[Path] = []
        """None of them may be in two sets."""
        self.notices: list[str] = []
        if folder := split_folder(root, split):
            found = discover(folder)
            refuse_splits_among(folder, found.files, None if folder == root else split)
            beside = beside_splits(root) if split == "train" else ()
            self.source_files, self.notices = found.files, [*found.notices, *beside]
        self.target_ending = ending(self.source_files[0]) if self.source_files else ""

    def __len__(self) -> int:
        return len(self.source_files)

    def __getitem__(self, index: int) -> Sample:
        pixels = read_image(self.source_files[index])
        return Sample(pixels, pixels, self.key(index))

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index``, from the header of its file."""
        shape = image_header(self.source_files[index])
        return SampleHeader(shape, shape, self.key(index))

    def key(self, index: int) -> str:
        """The key of the pair at ``index``, without reading it."""
        return key_of(self.source_files[index], self._root)

    def fingerprint(self) -> str:
        """A digest of the files."""
        return fingerprint_of(self._root, self.source_files)
