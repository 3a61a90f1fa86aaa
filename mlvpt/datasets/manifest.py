"""Data sets of one's own pictures, from a CSV file with the labels of each."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, require_file
from mlvpt.errors import InputError

CELLS = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}


def load_manifest(
    csv_path: str | Path,
    image_root: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    separator: str = ";",
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
    Left: a column `labels`; an empty cell means no label. Right: one column for each class with
    1 (present), 0 (absent), -1 or blank (not known: left out of loss and metrics). An optional
    column `split` holds a word such as train, val or test for each row.

    The file is UTF-8, with or without a byte order mark, separated by comma, semicolon or tab
    (found in the header). Backslashes in paths are read as slashes. A path whose accents or
    suffix are spelled differently on disk (composed or not, .jpg or .JPG) is found all the same.
    The image files are not touched until one is opened.

    Args:
        csv_path: the file.
        image_root: the folder that relative paths start from; default: the file's own folder.
        class_names: the classes and their order; default: the class columns as they stand, or
            all names in the column `labels`, in alphabetical order. With names given, another
            name in the file is an error, and a name that the file lacks is a class without
            positives (column `labels`) or an error (class columns).
        separator: between the names in a cell of `labels`.
        split: keep only rows with this word in the column `split`. The classes are those of the
            whole file, so the splits have the same columns.
        blank: what a blank cell in a class column means: "ignore" (-1) or "absent" (0).

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0, -1}; image ids are the paths as written.

    Raises:
        InputError: names the file, the line and what is wrong there: no such column, a value
            that is not 1, 0 or -1, an unknown label, a path that two rows share, a row with too
            many or too few cells, a file that is not UTF-8.
    """
    if blank not in ("ignore", "absent"):
        raise InputError(f"blank must be 'ignore' or 'absent', not {blank!r}.")
    path = require_file(Path(csv_path), "the manifest")
    header, rows = _read_rows(path)
    _check_paths(path, rows)
    columns = [name for name in header if name not in ("path", "split")]
    if "labels" in header:
        if columns != ["labels"]:
            others = [name for name in columns if name != "labels"]
            raise InputError(
                f"{path} has a column labels and others ({', '.join(others)}): give the classes "
                "in one form, a labels column or a column for each class."
            )
        names, targets = _from_labels(path, rows, separator, class_names)
    else:
        names, targets = _from_columns(path, rows, columns, class_names, blank)

    keep = np.ones(len(rows), bool)
    if split is not None:
        if "split" not in header:
            raise InputError(f"{path} has no column split, so it has no split {split!r}: add one.")
        keep = np.array([row["split"] == split for _, row in rows])
        if not keep.any():
            found = ", ".join(sorted({row["split"] for _, row in rows}))
            raise InputError(f"{path} has no rows of split {split!r}; its splits are: {found}.")
    kept = np.flatnonzero(keep)
    paths = [rows[i][1]["path"] for i in kept]
    root = Path(image_root) if image_root is not None else path.parent
    return MultiLabelDataset(
        targets=targets[kept],
        class_names=names,
        images=ImageFiles([root], [name.replace("\\", "/") for name in paths]),
        image_ids=paths,
        name=path.stem if split is None else f"{path.stem} {split}",
    )


def manifest_splits(csv_path: str | Path) -> set[str]:
    """The words in the column `split` of a manifest; empty if it has no such column."""
    _, rows = _read_rows(require_file(Path(csv_path), "the manifest"))
    return {row["split"] for _, row in rows if "split" in row}


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header names and (line number, {column: cell}) of every row that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it as 'CSV UTF-8'.") from error
    first = text.split("\n", 1)[0]
    delimiter = next((mark for mark in (",", "\t", ";") if mark in first), ",")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has "
                    f"{len(header)}; quote a cell that holds a {delimiter!r}."
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from error
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path} has two columns called {repeated[0]!r}: rename one.")
    if "path" not in header or len(set(header) - {"path", "split"}) == 0:
        raise InputError(
            f"{path} needs a column path and a column labels, or a column for each class; its "
            f"first line is {first.strip()!r}."
        )
    if not rows:
        raise InputError(f"{path} has a header and no rows: add one row for each image.")
    return header, rows


def _check_paths(path: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    first_line: dict[str, int] = {}
    for number, row in rows:
        if not row["path"]:
            raise InputError(f"{path}, line {number}: the path is empty.")
        if row["path"] in first_line:
            raise InputError(
                f"{path}, lines {first_line[row['path']]} and {number} are the same image "
                f"{row['path']!r}: merge them (in two splits it would be trained and tested on)."
            )
        first_line[row["path"]] = number


def _from_labels(
    path: Path,
    rows: list[tuple[int, dict[str, str]]],
    separator: str,
    class_names: Sequence[str] | None,
) -> tuple[list[str], np.ndarray]:
    if not separator:
        raise InputError("separator must be at least one character, such as ';'.")
    labels = [
        {name.strip() for name in row["labels"].split(separator)} - {""} for _, row in rows
    ]  # one set for each image
    names = sorted(set().union(*labels)) if class_names is None else list(class_names)
    if not names:
        raise InputError(f"{path} gives no image a label: fill the column labels.")
    column = {name: k for k, name in enumerate(names)}
    targets = np.zeros((len(rows), len(names)), np.int8)
    for i, (number, _) in enumerate(rows):
        unknown = sorted(labels[i] - set(column))
        if unknown:
            raise InputError(
                f"{path}, line {number}: {unknown[0]!r} is not one of the {len(names)} classes "
                f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})."
            )
        targets[i, [column[name] for name in labels[i]]] = 1
    return names, targets


def _from_columns(
    path: Path,
    rows: list[tuple[int, dict[str, str]]],
    columns: list[str],
    class_names: Sequence[str] | None,
    blank: str,
) -> tuple[list[str], np.ndarray]:
    names = columns if class_names is None else list(class_names)
    if set(names) != set(columns):
        odd = sorted(set(names) ^ set(columns))[0]
        where = "is no column of" if odd in names else "is a column but no class of"
        raise InputError(f"{odd!r} {where} {path}: the class columns must match class_names.")
    cells = {**CELLS, "": -1 if blank == "ignore" else 0}
    targets = np.empty((len(rows), len(names)), np.int8)
    for i, (number, row) in enumerate(rows):
        for k, name in enumerate(names):
            if row[name] not in cells:
                raise InputError(
                    f"{path}, line {number}: column {name!r} holds {row[name]!r}; use 1 "
                    "(present), 0 (absent), or -1 or nothing (not known)."
                )
            targets[i, k] = cells[row[name]]
    return names, targets
