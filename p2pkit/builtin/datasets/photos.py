"""Photos, each of which is source and target of a pair: what differs between them the recipe says."""

from __future__ import annotations

from pathlib import Path

from p2pkit.contracts import Sample, SampleHeader, Split
from p2pkit.data.discovery import FilePairs, beside_splits, least_of_both, refuse_splits_among, split_folder
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending
from p2pkit.images.reading import image_header, read_image


class Photos(FilePairs):
    """Any folder of photos, each of which is a pair by itself: its source and its target are the photo.

    What is learnt is what the recipe takes of it: ``channels = "lab_L"`` below [source] and ``channels = "lab_ab"``
    below [target] give colours to gray photos, augmentations of the source remove what they do, and
    ``edges_from_targets``, ``gray_from_targets`` and ``holes_from_targets`` make sources of photos. There may be
    folders train, val and test, called as in ``side_by_side``; a ``root`` without these holds training photos only.

    Args:
        root: the folder of the photos, and of folders of photos.
    """

    def __init__(self, split: Split, root: Path) -> None:
        folder = split_folder(root, split)
        found = discover(folder) if folder else None
        files = found.files if found else []
        super().__init__(root, [(file, file) for file in files])
        if folder and found:
            refuse_splits_among(folder, files, None if folder == root else split)
            self.notices += [*found.notices, *(beside_splits(root) if split == "train" else ())]
        self.target_ending = ending(files[0]) if files else ""

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self._files[index][0], least_of_both(self._least))
        return Sample(image, image, self.key(index))

    def header(self, index: int) -> SampleHeader:
        """The shape of the image at ``index``, from the header of its file."""
        shape = image_header(self._files[index][0])
        return SampleHeader(shape, shape, self.key(index))
