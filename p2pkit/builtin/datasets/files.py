"""What data sets made of files share: the folder of a split."""

from __future__ import annotations

from pathlib import Path

from p2pkit.contracts import Split
from p2pkit.errors import DataError

SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}


def split_folder(root: Path, split: Split) -> Path | None:
    """The folder of ``split`` below ``root``; None for a test split that is not there.

    Without any such folder all of ``root`` is for training.

    Raises:
        DataError: ``root`` is missing, or it has a test folder but no folder for training.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder (data.root)")
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    if split == "test":
        return None
    refuse_held_out_alone(root)
    return root


def refuse_held_out_alone(folder: Path) -> None:
    """Raise DataError when ``folder`` has held-out pairs, but no folder train: they must not be trained on."""
    for name in SPLIT_FOLDERS["test"]:
        if (folder / name).is_dir():
            raise DataError(f"{folder}: it has the folder {name} of held-out pairs, but no folder train")
