"""Commands about labels and data: groups, check, scenes."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mlvpt.cli.main import parser_for
from mlvpt.errors import InputError


def _data_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--data.name", dest="name", default=default, help="the data set")
    parser.add_argument("--data.root", dest="root", help="its folder, or the manifest's CSV file")
    parser.add_argument(
        "--data.image_root", dest="image_root", help="folder of a manifest's images"
    )
    parser.add_argument(
        "--data.difficult", dest="difficult", default="ignore", choices=["ignore", "negative"]
    )


def _data(options: argparse.Namespace, seed: int = 0) -> Any:
    from mlvpt.training.data import load_data
    from mlvpt.training.recipes import from_dict

    names = ("name", "root", "image_root", "difficult")
    config = from_dict({"data": {name: getattr(options, name) for name in names}})
    return load_data(config.data, seed)


def groups(argv: list[str]) -> None:
    """`mlvpt groups`"""
    parser = parser_for("groups")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", help="shipped counts: voc2007, coco2014, clothing")
    source.add_argument("--counts", type=Path, help="CSV of a (K, K) count matrix, names as header")
    _data_options(parser, None)
    parser.add_argument("--n-groups", type=int, default=5)
    parser.add_argument(
        "--tau",
        "--root",
        type=float,
        nargs="+",
        default=[2.0],
        help="one, or one for CO and for DC",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the groups as JSON")
    parser.add_argument("--plot", type=Path, help="folder for heatmaps and group graphs")
    options = parser.parse_args(argv)
    from mlvpt import grouping
    from mlvpt.datasets.shipped import label_statistics

    if options.dataset:
        statistics = label_statistics(options.dataset)
        counts, names = statistics.counts, statistics.class_names
    elif options.counts:
        counts, names = _read_counts(options.counts)
    elif options.name:
        train = _data(options, options.seed).train  # as a run with the same seed groups it
        counts, names = grouping.cooccurrence_counts(train.targets), tuple(train.class_names)
    else:
        raise InputError("nothing to group: give --dataset, --counts or --data.name.")
    tau = options.tau[0] if len(options.tau) == 1 else options.tau
    found = grouping.group_labels(
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
    import csv

    import numpy as np

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
    from matplotlib.figure import Figure

    from mlvpt.grouping import cooccurrence_affinity, exclusion_affinity
    from mlvpt.labels import check_taus
    from mlvpt.plots import affinity_heatmap, group_graph, style

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


def check(argv: list[str]) -> int:
    """`mlvpt check`: exit code 1 if the data set cannot be trained on."""
    parser = parser_for("check")
    _data_options(parser, "scenes")
    options = parser.parse_args(argv)
    from mlvpt.datasets import check_dataset

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


def scenes(argv: list[str]) -> None:
    """`mlvpt scenes export`"""
    parser = parser_for("scenes")
    parser.add_argument("action", choices=["export"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", default="voc", choices=["voc", "coco"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-images", type=int, help="images per split; default: all")
    options = parser.parse_args(argv)
    from mlvpt.datasets.export import export_scenes

    root = export_scenes(
        options.folder, layout=options.layout, seed=options.seed, n_images=options.n_images
    )
    print(f"DigitScenes in {options.layout} layout: {root}")
