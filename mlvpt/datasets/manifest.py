"""Data sets of one's own pictures, from a CSV file with the labels of each."""

import csv
import io
import itertools
import operator
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, require_file
from mlvpt.errors import InputError

SEPARATOR = ";"  # between the names in a cell of labels
CELLS = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}


def load_manifest(
    csv_path: str | Path,
    image_root: str | Path | None = None,
    split: str | None = None,
    blank: str = "ignore",
) -> MultiLabelDataset:
    """A data set from a CSV file, in one of two forms.

    ```
    path,labels                      path,cat,dog,sofa
    holiday/cat 1.jpg,cat;sofa       holiday/cat 1.jpg,1,0,1
    DSC_0002.JPG,dog                 DSC_0002.JPG,0,1,-1
    empty room.png,                  empty room.png,0,0,
    ```
    Left: a column `labels` of names with `;` between them; an empty cell means no label. Right: one
    column for each class with 1 (present), 0 (absent), -1 or blank (not known: left out of loss
    and metrics). An optional column `split` holds a word such as train, val or test for each row.

    The file is UTF-8, with or without a byte order mark, separated by comma, semicolon or tab
    (found in the header). Backslashes in paths are read as slashes. A path whose accents or
    suffix are spelled differently on disk (composed or not, .jpg or .JPG) is found all the same.

    Args:
        csv_path: the file.
        image_root: the folder that relative paths start from; default: the file's own folder.
        split: keep only rows with this word in the column `split`. The classes are those of the
            whole file, so the splits have the same columns.
        blank: what a blank cell in a class column means: "ignore" (-1) or "absent" (0).

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0, -1}; image ids are the paths as written.
        The classes are the class columns as they stand, or all names in the column `labels`, in
        alphabetical order.

    Raises:
        InputError: names the file, the line and what is wrong there: no such column, a column
            without a name, a value that is not 1, 0 or -1, names behind another separator
            ("0,1,2" would be one class), an image that two rows share under whatever spelling, a
            row with too many or too few cells, a control character, a file that is not UTF-8.
    """
    if blank not in ("ignore", "absent"):
        raise InputError(f"blank must be 'ignore' or 'absent', not {blank!r}.")
    path = Path(csv_path)
    table = _read(path)
    if split is not None and table.splits is None:
        raise InputError(f"{path} has no column split, so it has no split {split!r}: add one.")
    if split is not None and split not in table.splits:
        found = ", ".join(sorted(set(table.splits)))
        raise InputError(f"{path} has no rows of split {split!r}; its splits are: {found}.")
    return _part(table, *_labels(table, blank), image_root, split)


def load_manifest_splits(
    csv_path: str | Path, image_root: str | Path | None = None
) -> dict[str, MultiLabelDataset]:
    """Every split of a manifest, by the words of its column `split`, after reading it once.

    Without that column: {"train": all rows}.

    Raises:
        InputError: as `load_manifest`.
    """
    table = _read(Path(csv_path))
    labels = _labels(table, "ignore")
    if table.splits is None:
        return {"train": _part(table, *labels, image_root, None)}
    words = sorted(set(table.splits))
    return {split: _part(table, *labels, image_root, split) for split in words}


@dataclass
class _Table:
    """A manifest as text: header, and the rows that are not blank, column by column.

    Attributes:
        lines: the line of the file on which each row ends.
        cells: row after row, the cells of the columns that hold labels, as they stand.
    """

    file: Path
    columns: list[str]
    lines: list[int]
    paths: list[str]
    splits: list[str] | None
    cells: list[list[str]]


def _read(path: Path) -> _Table:
    try:
        text = require_file(path, "the manifest").read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it as 'CSV UTF-8'.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    # csv wants its lines as they are; str.splitlines would also split within unusual names
    lines = io.StringIO(text, newline="")
    first = next(iter(lines), "")
    lines.seek(0)
    delimiter = next((m for m in ",\t;" if "path" in _header(first, m)), None)
    if delimiter is None:
        delimiter = next((m for m in ",\t;" if m in first), ",")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    numbers, rows = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, first)
        for cells in reader:
            if len(cells) == len(header):
                if any(cells):  # a cheap look; rows of blanks alone are dropped below
                    rows.append(cells)
                    numbers.append(reader.line_num)
            elif any(cell.strip() for cell in cells):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has "
                    f"{len(header)}; quote a cell that holds a {delimiter!r}."
                )
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from error
    where = {name: column for column, name in enumerate(header)}
    paths = [row[where["path"]].strip() for row in rows]
    if not all(paths):  # of a row without a path, only one that is blank throughout is dropped
        kept = [i for i, row in enumerate(rows) if any(cell.strip() for cell in row)]
        rows, numbers, paths = ([x[i] for i in kept] for x in (rows, numbers, paths))
    if not rows:
        raise InputError(f"{path} has a header and no rows: add one row for each image.")
    splits = None
    if "split" in where:
        splits = [row[where["split"]].strip() for row in rows]
    _check_paths(path, numbers, paths)
    columns = [name for name in header if name not in ("path", "split")]
    places = [where[name] for name in columns]
    if len(places) == 1:
        cells = [(row[places[0]],) for row in rows]
    else:
        cells = list(map(operator.itemgetter(*places), rows))
    return _Table(path, columns, numbers, paths, splits, cells)


def _header(first: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"') for name in first.split(delimiter)]


def _check_header(path: Path, header: list[str], first: str) -> None:
    if "path" not in header or len(set(header) - {"path", "split"}) == 0:
        raise InputError(
            f"{path} needs a column path and a column labels, or a column for each class; its "
            f"first line is {first.strip()[:200]!r}."
        )
    if "" in header:
        raise InputError(
            f"{path}, line 1: column {header.index('') + 1} of {len(header)} has no name: name it, "
            "or remove it (a separator at the end of the line makes one)."
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path} has two columns called {repeated[0]!r}: rename one.")
    others = [name for name in header if name not in ("path", "split", "labels")]
    if "labels" in header and others:
        raise InputError(
            f"{path} has a column labels and others ({', '.join(others[:10])}): give the classes "
            "in one form, a labels column or a column for each class."
        )
    _check_text(path, [1] * len(header), header, "column name")


def _check_text(path: Path, numbers: list[int], cells: list[str], what: str) -> None:
    """Refuse line breaks and other control characters, which an unclosed quote brings in."""
    for number, cell in zip(numbers, cells, strict=True):
        if not cell.isprintable():
            bad = next((c for c in cell if ord(c) < 32 or ord(c) == 127), None)
            if bad is not None:
                hint = ": is a quote not closed?" if bad in "\r\n" else ": remove it."
                raise InputError(
                    f"{path}, line {number}: the {what} {cell[:60]!r} holds the character "
                    f"{bad!r}{hint}"
                )


def _check_paths(path: Path, numbers: list[int], paths: list[str]) -> None:
    _check_text(path, numbers, paths, "path")
    seen: dict[str, int] = {}
    for row, name in enumerate(paths):
        if not name:
            raise InputError(f"{path}, line {numbers[row]}: the path is empty.")
        # ./a.jpg, b/../a.jpg and another composition of accents are the image a.jpg
        plain = posixpath.normpath(name.replace("\\", "/"))
        if not plain.isascii():
            plain = unicodedata.normalize("NFC", plain)
        before = seen.setdefault(plain, row)
        if before != row:
            other = "" if paths[before] == name else f" as {paths[before]!r}"
            raise InputError(
                f"{path}, lines {numbers[before]} and {numbers[row]} are the same image "
                f"{name!r}{other}: merge them (in two splits it would be trained and tested on)."
            )


def _part(
    table: _Table,
    names: list[str],
    targets: np.ndarray,
    image_root: str | Path | None,
    split: str | None,
) -> MultiLabelDataset:
    """The rows of one split, or all."""
    paths = table.paths
    if split is not None:
        kept = [i for i, word in enumerate(table.splits) if word == split]
        paths, targets = [paths[i] for i in kept], targets[kept]
    root = Path(image_root) if image_root is not None else table.file.parent
    return MultiLabelDataset(
        targets=targets,
        class_names=names,
        images=ImageFiles([root], [name.replace("\\", "/") for name in paths]),
        image_ids=paths,
        name=table.file.stem if split is None else f"{table.file.stem} {split}",
    )


def _labels(table: _Table, blank: str) -> tuple[list[str], np.ndarray]:
    """Class names and (N, K) targets, from a labels column or from a column for each class."""
    return _from_labels(table) if table.columns == ["labels"] else _from_columns(table, blank)


def _from_labels(table: _Table) -> tuple[list[str], np.ndarray]:
    cells = [cell for (cell,) in table.cells]
    _check_text(table.file, table.lines, [cell.strip() for cell in cells], "cell of labels")
    labels = [{name.strip() for name in cell.split(SEPARATOR)} - {""} for cell in cells]
    names = sorted(set().union(*labels))
    if not names:
        raise InputError(f"{table.file} gives no image a label: fill the column labels.")
    _check_separator(table, labels, set(names))
    column = {name: k for k, name in enumerate(names)}
    targets = np.zeros((len(labels), len(names)), np.int8)
    for i, row in enumerate(labels):
        targets[i, [column[name] for name in row]] = 1
    return names, targets


def _check_separator(table: _Table, labels: list[set[str]], found: set[str]) -> None:
    """Refuse names that are several names behind another separator, such as '0,1,2'.

    They are where no cell holds the separator, or where the pieces of a name are names themselves.
    """
    unused = not any(SEPARATOR in cell for (cell,) in table.cells)
    joined = []  # a name that is several, and what stands between them
    for other in ",|\t/":
        for name in sorted(name for name in found if other in name):
            pieces = {piece.strip() for piece in name.split(other)} - {""}
            if (unused and other != "/") or (pieces and pieces <= found - {name}):
                joined.append((name, repr(other)))
    numbers = sorted(name for name in found if re.fullmatch(r"\d+( +\d+)+", name))
    for name, other in [*joined, *((name, "spaces") for name in numbers)][:1]:
        line = table.lines[next(i for i, row in enumerate(labels) if name in row)]
        raise InputError(
            f"{table.file}, line {line}: {name!r} would be one class: put {SEPARATOR!r} between "
            f"names instead of {other}."
        )


def _from_columns(table: _Table, blank: str) -> tuple[list[str], np.ndarray]:
    columns = table.columns
    values = {**CELLS, "": -1 if blank == "ignore" else 0}
    bad = 2  # no value of a cell
    # a hundred thousand rows hold millions of cells: one pass in C, and only odd cells in Python
    flat = itertools.chain.from_iterable(table.cells)
    found = map(values.get, flat, itertools.repeat(bad))
    targets = np.fromiter(found, np.int8, len(table.cells) * len(columns))
    targets = targets.reshape(len(table.cells), len(columns))
    for i, k in np.argwhere(targets == bad).tolist():
        cell = table.cells[i][k].strip()
        if cell not in values:
            raise InputError(
                f"{table.file}, line {table.lines[i]}: column {columns[k]!r} holds {cell[:60]!r}; "
                "use 1 (present), 0 (absent), or -1 or nothing (not known)."
            )
        targets[i, k] = values[cell]
    return columns, targets
