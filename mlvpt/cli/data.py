"""Commands about labels and data: groups, check, scenes."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlvpt.datasets import check_dataset
from mlvpt.datasets.export import export_scenes
from mlvpt.datasets.shipped import label_statistics
from mlvpt.errors import InputError
from mlvpt.grouping import (
    cooccurrence_affinity,
    cooccurrence_counts,
    exclusion_affinity,
    group_labels,
)
from mlvpt.labels import check_taus
from mlvpt.plots import affinity_heatmap, group_graph, style
from mlvpt.training.data import load_data
from mlvpt.training.recipes import from_dict


def _data(options: Any, seed: int = 0) -> Any:
    names = ("name", "root", "image_root", "difficult")
    config = from_dict({"data": {name: getattr(options, name) for name in names}})
    return load_data(config.data, seed)


def groups(options: Any) -> None:
    """`mlvpt groups`"""
    if options.dataset:
        statistics = label_statistics(options.dataset)
        counts, names = statistics.counts, statistics.class_names
    elif options.counts:
        counts, names = _read_counts(options.counts)
    elif options.name:
        train = _data(options, options.seed).train  # as a run with the same seed groups it
        counts, names = cooccurrence_counts(train.targets), tuple(train.class_names)
    else:
        raise InputError("nothing to group: give --dataset, --counts or --data.name.")
    tau = options.tau[0] if len(options.tau) == 1 else options.tau
    found = group_labels(
        counts=counts,
        n_groups=options.n_groups,
        tau=tau,
        seed=options.seed,
        class_names=names,
    )
    print(found)
    if options.output:
        found.to_json(options.output)
    if options.plot:
        _plot_groups(counts, found, tau, options.plot)


def _read_counts(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Counts and class names from a CSV file: a header of names, then a row per class.

    A first column of names, as in the packaged files, is allowed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except ValueError as error:  # not UTF-8, or no line at all
        raise InputError(
            f"{path} holds no header of names ({error}): give a UTF-8 CSV whose first line is the "
            "class names."
        ) from None
    skip = int([row[0] for row in rows] == header[1:])  # a first column that repeats the names
    names = header[skip:]
    try:
        counts = np.array([row[skip:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path} holds no matrix of counts ({error}).") from None
    if counts.shape != (len(names), len(names)) or (counts % 1).any():
        raise InputError(
            f"{path} must hold a header of K names and K rows of K whole numbers, got "
            f"{len(names)} names and {len(rows)} rows."
        )
    return counts.astype(np.int64), tuple(names)


def _plot_groups(counts: Any, groups: Any, tau: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = groups.class_names
    tau_co, tau_dc = check_taus(tau)
    parts = (("co", cooccurrence_affinity, tau_co), ("dc", exclusion_affinity, tau_dc))
    for view, make, view_tau in parts:
        affinity = make(counts, view_tau)
        side = max(6.0, 0.22 * len(affinity))
        with style():
            figure = Figure(figsize=(side, side))
            affinity_heatmap(affinity, groups, view, names, ax=figure.add_subplot())
            figure.savefig(folder / f"affinity_{view}.png")
            figure = Figure(figsize=(side, side))
            group_graph(affinity, getattr(groups, view), names, ax=figure.add_subplot())
            figure.savefig(folder / f"graph_{view}.png")
    print(f"figures are in {folder}")


def check(options: Any) -> int:
    """`mlvpt check`: exit code 1 if the data set cannot be trained on."""
    splits = _data(options)
    fatal = 0
    for name, part in {"train": splits.train, "val": splits.val, **splits.tests}.items():
        problems = check_dataset(part, progress=sys.stderr.isatty())
        fatal += sum(problem.fatal for problem in problems)
        print(f"{name}: {part!r}")
        for problem in problems:
            print(f"  {problem}")
    print(f"{fatal} errors" if fatal else "no errors: ready to train")
    return 1 if fatal else 0


def scenes(options: Any) -> None:
    """`mlvpt scenes export`"""
    root = export_scenes(
        options.folder, layout=options.layout, seed=options.seed, n_images=options.n_images
    )
    print(f"DigitScenes in {options.layout} layout: {root}")
