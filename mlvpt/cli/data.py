"""Commands about labels and data: groups, check, scenes."""

import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mlvpt.datasets import check_splits
from mlvpt.datasets.export import export_scenes
from mlvpt.datasets.shipped import label_statistics, read_counts
from mlvpt.errors import InputError
from mlvpt.files import Outputs, output_to_standard
from mlvpt.grouping import (
    cooccurrence_affinity,
    cooccurrence_counts,
    exclusion_affinity,
    group_labels,
)
from mlvpt.labels import check_taus
from mlvpt.plots import affinity_heatmap, group_graph, style
from mlvpt.plots.saving import is_own_figure, save_figure
from mlvpt.training.data import load_data
from mlvpt.training.recipes import from_dict


def _data(options: Any, seed: int = 0) -> Any:
    names = ("name", "root", "image_root", "difficult")
    config = from_dict({"data": {name: getattr(options, name) for name in names}})
    return load_data(config.data, seed)


PLOTS = ("affinity_co.png", "graph_co.png", "affinity_dc.png", "graph_dc.png")


def groups(options: Any) -> None:
    """`mlvpt groups`"""
    inputs = [path for path in (options.counts, options.root) if path]
    outputs = Outputs(inputs)
    outputs.add(options.output, "--output")
    for name in PLOTS if options.plot else ():
        outputs.add(options.plot / name, "--plot", own=is_own_figure)
    if options.dataset:
        statistics = label_statistics(options.dataset)
        counts, names = statistics.counts, statistics.class_names
    elif options.counts:
        counts, names = read_counts(options.counts)
    elif options.name:
        train = _data(options, options.seed).train  # as a run with the same seed groups it
        counts, names = cooccurrence_counts(train.targets), tuple(train.class_names)
    else:
        raise InputError("nothing to group: give --dataset, --counts or --data.name.")
    tau = options.tau[0] if len(options.tau) == 1 else options.tau
    found = group_labels(
        counts=counts, n_groups=options.n_groups, tau=tau, seed=options.seed, class_names=names
    )
    if options.output:
        found.to_json(options.output)
    if options.plot:
        _plot_groups(counts, found, tau, options.plot)
    if not output_to_standard(options.output):
        print(found)
        if options.plot:
            print(f"figures are in {options.plot}")


def _plot_groups(counts: Any, groups: Any, tau: Any, folder: Path) -> None:
    names = groups.class_names
    tau_co, tau_dc = check_taus(tau)
    parts = (("co", cooccurrence_affinity, tau_co), ("dc", exclusion_affinity, tau_dc))
    for view, make, view_tau in parts:
        affinity = make(counts, view_tau)
        side = max(6.0, 0.22 * len(affinity))
        with style():
            figure = Figure(figsize=(side, side))
            affinity_heatmap(affinity, groups, view, names, ax=figure.add_subplot())
            save_figure(figure, folder / f"affinity_{view}.png")
            figure = Figure(figsize=(side, side))
            group_graph(affinity, getattr(groups, view), names, ax=figure.add_subplot())
            save_figure(figure, folder / f"graph_{view}.png")


def check(options: Any) -> int:
    """`mlvpt check`: exit code 1 if the data set cannot be trained on."""
    splits = _data(options)
    fatal = 0
    for name, problems in check_splits(splits, progress=sys.stderr.isatty()).items():
        fatal += sum(problem.fatal for problem in problems)
        print(f"{name}: {splits.parts[name]!r}")
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
