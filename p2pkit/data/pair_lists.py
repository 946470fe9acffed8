"""Which files are one sample, as a list has it: a CSV or TSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from p2pkit.contracts import Split
from p2pkit.data.pairing import SHOWN, Pairs
from p2pkit.data.split_names import SPLIT_NAMES, split_of
from p2pkit.errors import DataError, did_you_mean, listed
from p2pkit.images.formats import installed
from p2pkit.utils.opening import limits, over, read_regular
from p2pkit.utils.paths import usable_path

LINES_SHOWN = 20
"""How many lines of a list that must be mended a message names."""
COLUMNS = ("source", "target", "mask", "split", "group")
"""What the columns of a list may be called; the first two must be there."""
MASKS_OF_ALL = "; where there is a column mask each line needs one, which may be white all over"
OF_SEVERAL = "source."
"""What the columns of several sources begin with, before the name of each."""


@dataclass(frozen=True)
class _Row:
    """A line of a list."""

    line: int
    files: tuple[Path, ...]
    """Sources, target, and mask where there are masks."""
    split: Split
    group: str


def listed_pairs(root: Path, name: str, split: Split) -> Pairs:
    """The pairs of a set as a list has them: a CSV or TSV file with a header, below ``root`` unless it is absolute.

    Its columns are source and target, paths below ``root`` or absolute, and perhaps mask, likewise, split (rows without
    one are for training) and group. In place of source, several have source.NAME each. Others are left out, and named
    in a notice.

    Raises:
        DataError: with all that is wrong in the list, by lines.
    """
    try:
        file = root / usable_path(Path(name), folder=root)
    except ValueError as error:
        raise DataError(f"data.list: found {name!r}, expected {error}") from error
    rows, columns = _rows(file, root)
    ignored = [column or "without a name" for column in columns if not _known(column)]
    notices = [f"{file}: {len(ignored)} of its columns are not used: {', '.join(ignored)}"] * bool(ignored)
    splits: dict[str, set[Split]] = {}
    for row in rows:
        splits.setdefault(row.group, set()).add(row.split)
    if torn := [group for group, found in splits.items() if group and len(found) > 1]:
        notices.append(f"{file}: {len(torn)} groups have pairs in more than one set ({', '.join(torn[:SHOWN])})")
    chosen = [row for row in rows if row.split == split]
    groups = [row.group for row in chosen]
    names = [column.removeprefix(OF_SEVERAL) for column in _sources(columns) if column != COLUMNS[0]]
    files = [row.files for row in chosen]
    return Pairs(files, groups if any(groups) else [], notices, names=names, masked="mask" in columns)


def _rows(file: Path, root: Path) -> tuple[list[_Row], list[str]]:
    """The rows of a list and the names of its columns; DataError with all that is wrong."""
    text = _text_of(file)
    head = text.lstrip().partition("\n")[0]
    delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows, wrong = list[_Row](), list[str]()
    first_lines: dict[Path, int] = {}
    cells_of: dict[str, set[str]] = {}
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if not columns:
                columns = [_column(cell) for cell in cells]
                _refuse_columns(file, reader.line_num, columns)
                continue
            for column, cell in zip(columns, cells, strict=False):
                cells_of.setdefault(column, set()).add(cell.strip())
            row, found = _row(reader.line_num, dict(zip(columns, map(str.strip, cells), strict=False)), root)
            if len(cells) != len(columns):
                found = [f"{len(cells)} cells, expected {len(columns)} as in the header"]
            wrong += [f"line {reader.line_num}: {each}" for each in found]
            if row is not None and not found:
                first = first_lines.setdefault(row.files[0], row.line)
                if first != row.line:
                    wrong.append(f"line {row.line}: the source {row.files[0]} is in line {first} already")
                rows.append(row)
    except csv.Error as error:
        raise DataError(
            f"{file}: line {reader.line_num}: this is not a {file.suffix or 'CSV'} file: {error}"
        ) from error
    _refuse_splits_by_other_names(file, cells_of)
    if wrong:
        raise DataError(f"{file}: {len(wrong)} things in this list must be mended:{listed(wrong, LINES_SHOWN)}")
    if not rows:
        raise DataError(f"{file}: this list names no pairs; it has a header source,target and a line for each pair")
    return rows, columns


def _row(line: int, cells: Mapping[str, str], root: Path) -> tuple[_Row | None, list[str]]:
    """A row, and what is wrong in it."""
    wrong, files = list[str](), dict[str, Path]()
    for side in (*_sources(cells), "target", *["mask"] * ("mask" in cells)):
        name = cells.get(side, "")
        if not name:
            wrong.append(f"it has no {side}{MASKS_OF_ALL * (side == 'mask')}")
            continue
        try:
            files[side] = root / usable_path(Path(name), folder=root)
            if not files[side].is_file():
                found = "this is no regular file" if files[side].exists() else "there is no such file"
                wrong.append(f"{side} {files[side]}: {found}")
        except ValueError as error:
            wrong.append(f"{side}: found {name!r}, expected {error}")
    named = cells.get("split", "")
    split = split_of(named) if named else "train"
    if split is None:
        wrong.append(f"split: found {named!r}, expected train, val or test{did_you_mean(named, SPLIT_NAMES)}")
    for one, other in combinations([] if wrong else files, 2):
        if files[one] == files[other] and (one == "target" or other != "mask"):  # a source may be the mask as well
            wrong.append(f"{files[one]} is both {one} and {other}")
    if wrong or split is None:
        return None, wrong
    return _Row(line, (*files.values(),), split, cells.get("group", "")), wrong


def _column(cell: str) -> str:
    """What a cell of the header calls its column; the names of sources keep their capitals."""
    name = cell.strip()
    of_several = name.lower().startswith(OF_SEVERAL)
    return OF_SEVERAL + name[len(OF_SEVERAL) :].strip() if of_several else name.lower()


def _sources(columns: Iterable[str]) -> list[str]:
    """The columns of sources."""
    return [column for column in columns if column == COLUMNS[0] or column.startswith(OF_SEVERAL)]


def _known(column: str) -> bool:
    return column in COLUMNS or column.startswith(OF_SEVERAL)


def _refuse_columns(file: Path, line: int, columns: Sequence[str]) -> None:
    sources = _sources(columns)
    wrong, missing = [], ["source"] * (not sources) + ["target"] * ("target" not in columns)
    for column in columns:
        guess = did_you_mean(column, COLUMNS)
        if _known(column) and columns.count(column) > 1:
            wrong.append(f"two columns are called {column}")
        elif not _known(column) and (guess or missing):  # "splt" is no column to leave out
            wrong.append(f"unknown column {column!r}{guess}")
    odd = any(not name or "." in name for name in (each.removeprefix(OF_SEVERAL) for each in sources))
    if odd or ("source" in columns and len(set(sources)) > 1):
        names = "a name of its own without dots, as in source.depth, source.normal"
        wrong.append(f"of the columns {', '.join(sources)} each needs {names}")
    wrong += [f"there is no column {column}" for column in missing]
    if missing and any(installed().is_image(column) for column in columns):
        wrong = ["it has no header: this line names images"]
    if wrong:
        found = "; ".join(dict.fromkeys(wrong))
        raise DataError(f"{file}: line {line}: {found}. Its first line names the columns: {', '.join(COLUMNS)}")


def _refuse_splits_by_other_names(file: Path, cells_of: Mapping[str, set[str]]) -> None:
    """Raise DataError for a column that is not used but holds splits: all rows would be trained on."""
    for column, cells in cells_of.items():
        splits = {split_of(cell) for cell in cells if cell}
        if column not in COLUMNS and "split" not in cells_of and len(splits) > 1 and None not in splits:
            named = ", ".join(sorted(cells))
            raise DataError(f"{file}: its column {column!r} holds splits ({named}), but is not called split; rename it")


def _text_of(file: Path) -> str:
    try:
        content = read_regular(file, limits().list_bytes)
        if len(content) > limits().list_bytes:
            raise DataError(f"{file}: this list is larger than lists are; {over('list_bytes', file.stat().st_size)}")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise DataError(f"{file}: there is no such file (data.list, which is looked for in data.root)") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: this list is not in UTF-8; save it so (in Excel: CSV UTF-8)") from error
    except OSError as error:
        raise DataError(f"{file}: this list cannot be read: {error.strerror}") from error
