"""Tables and the figure of the studies on photographs, both data sets side by side, in Markdown.

`make tables` writes them into README.md and results/README.md. A study that was not run is said to
be not run.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mlvpt.plots.cost import accuracy_against_cost
from mlvpt.results import load
from mlvpt.studies import tables
from mlvpt.studies.statistics import mean_std, paired_test, summarise
from mlvpt.studies.tables import layout, percent, signed
from mlvpt.studies.variants import BASE, ablation_variants, has_authors_groups
from mlvpt.training import recipes

PHOTOGRAPHS = {"voc2007_deit_tiny": "VOC2007", "clothing_deit_tiny": "Clothing Co-Parsing"}
TITLES = {**tables.TITLES, "full_finetuning": "fine-tuning"}  # of the last block alone
FINAL = ("test_mAP", "test_CF1", "test_OF1")  # measures of a run on photographs
SOURCES = {
    "labels": "by labels",
    "random": "by chance",
    "kmeans": "by k-means",
    "authors": "authors'",
    "single": "none",
}
# of ML-VPT's variants, those that the claim is about
PARTS = ("co_only_x2", "dc_only_x2", "random_groups", "one_group")
CLAIM = {
    "co-occur AP": "cooccur_AP",
    "exclusive AP": "exclusive_AP",
    "matched difference": "AP_matched_difference",
    "TPR difference": "TPR_difference",
    "FPR difference": "FPR_difference",
}
NOT_RUN = "not run"


def recorded(name: str, study: str, *, earlier: bool = False) -> list[dict[str, Any]]:
    """The runs of a study on photographs that succeeded; none if the study was not run.

    Args:
        name: folder of the records.
        study: file in it.
        earlier: where a method was run again at another rate and decay, which val chose later, give
            its runs at the earlier ones, too.
    """
    try:
        rows = [row for row in load(f"{name}/{study}") if "error" not in row]
    except FileNotFoundError:
        return []
    last = {_searched(row): _chosen(row) for row in rows}
    return [row for row in rows if earlier or _chosen(row) == last[_searched(row)]]


def _searched(row: dict[str, Any]) -> tuple[Any, Any]:
    """What has a rate and decay of its own: a method with so many prompted blocks.

    A row without its settings stands for itself.
    """
    config = row.get("config", {})
    return config.get("model.method", row["variant"]), config.get("model.depth")


def _chosen(row: dict[str, Any]) -> tuple[Any, Any]:
    """Rate and decay of a run."""
    config = row.get("config", {})
    return config.get("optim.lr"), config.get("optim.weight_decay")


def photographs_table() -> str:
    """Methods on both data sets, best mAP on VOC2007 first: means and deviations over seeds."""
    found = {name: _lines(recorded(name, "baselines")) for name in PHOTOGRAPHS}
    first, *_ = found.values()
    known = {}  # parameters and seconds are those of the first data set that has the method
    for lines in found.values():
        known = {**lines, **known}
    methods = sorted(known, key=lambda method: -first.get(method, {}).get("test_mAP", 0))
    columns = {"mAP": "test_mAP", "CF1": "test_CF1", "OF1": "test_OF1"}
    head = [f"{title} {column}" for title in PHOTOGRAPHS.values() for column in columns]
    table = [["method", "trained parameters", *head, "seconds per run"]]
    for method in methods:
        cells = [TITLES.get(method, method), f"{known[method]['trained_parameters']:,.0f}"]
        for lines in found.values():
            cells += [percent(lines.get(method, {}), key) for key in columns.values()]
        table.append([*cells, f"{known[method]['seconds']:.0f}"])
    return layout(table, markdown=True)


def ablations_table() -> str:
    """ML-VPT with one part changed: mAP, and its paired difference from the base with interval."""
    rows = {name: recorded(name, "ablations") for name in PHOTOGRAPHS}
    questions = {
        variant.name: variant.question
        for name in PHOTOGRAPHS
        for variant in ablation_variants(recipes.load(recipes.recipe_path(name)))
    }
    run = {row["variant"] for found in rows.values() for row in found}
    if not run:
        return "Ablations: not run yet."
    head = [
        f"{title} {column}"
        for title in PHOTOGRAPHS.values()
        for column in ("mAP", "difference (95%)")
    ]
    table = [["variant", "what changes", *head]]
    for variant in (name for name in questions if name in run):
        cells = [f"`{variant}`", questions[variant]]
        for found in rows.values():
            cells += [percent(_lines(found).get(variant, {}), "test_mAP")]
            cells += [difference(_by_seed(found, variant), _by_seed(found, BASE))]
        table.append(cells)
    return layout(table, markdown=True, words=(0, 1))


def groups_table() -> str:
    """Which classes share a group, by number of groups: mAP, and how far it is from by labels."""
    first, *others = SOURCES.values()
    table = [["data", "groups", first, *(f"{source}; difference" for source in others)]]
    for name, title in PHOTOGRAPHS.items():
        rows = recorded(name, "groups")
        lines, base = _lines(rows), recipes.load(recipes.recipe_path(name))
        for number in sorted({int(variant.split(", ")[1]) for variant in lines}):
            labels = _by_seed(rows, f"labels, {number}")
            cells = []
            for source in SOURCES:
                variant = f"{source}, {number}"
                if source == "authors" and not has_authors_groups(base, number):
                    cells.append("none released")
                    continue
                text = percent(lines.get(variant, {}), "test_mAP")
                compared = difference(_by_seed(rows, variant), labels)
                told = source != "labels" and variant in lines and compared
                cells.append(f"{text}; {compared}" if told else text)
            table.append([title, str(number), *cells])
    return layout(table, markdown=True, words=(0,))


def claim_table() -> str:
    """What co-occurrence does to the answers: means over the biased pairs, over seeds."""
    table = [["data", "method", *CLAIM]]
    for name, title in PHOTOGRAPHS.items():
        rows = recorded(name, "baselines")
        rows += [row for row in recorded(name, "ablations") if row["variant"] in PARTS]
        by_method: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if "test_pairs" in row:
                by_method.setdefault(row["variant"], []).append(row["test_pairs"])
        for method, found in by_method.items():
            cells = [_mean(found, measure) for measure in CLAIM.values()]
            table.append([title, TITLES.get(method, method), *cells])
    return layout(table, markdown=True, words=(0, 1))


def cost_figure(name: str) -> Axes | None:
    """Accuracy against seconds of all methods and all numbers of prompted blocks.

    Args:
        name: folder of the records.

    Returns:
        The Axes, or None if the study of blocks was not run.
    """
    blocks = recorded(name, "blocks")
    if not blocks:
        return None
    known = {row["variant"].split(", ")[0] for row in blocks}
    others = [row for row in recorded(name, "baselines") if row["variant"] not in known]
    lines = list(_lines([*blocks, *others]).values())
    return accuracy_against_cost(lines, TITLES)


def draw(folder: Path) -> None:
    """Write cost_NAME.png for each data set whose study of blocks was run."""
    import matplotlib.pyplot as plt

    from mlvpt.plots.saving import save_figure

    for name in PHOTOGRAPHS:
        ax = cost_figure(name)
        if ax is not None:
            save_figure(ax.figure, folder / f"cost_{name}.png")
            plt.close(ax.figure)


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> str:
    """The paired difference over the seeds that both have, in points, with its 95% interval.

    Args:
        values, base: fractions by seed.

    Returns:
        "+0.3 (-0.2 to +0.8)"; without interval for one seed, "" without any or against itself.
    """
    shared = sorted(values.keys() & base.keys())
    if not shared or values == base:
        return ""
    found = paired_test([values[seed] for seed in shared], [base[seed] for seed in shared])
    text = signed(found["difference"])
    if math.isnan(found["interval"][0]):
        return text
    low, high = map(signed, found["interval"])
    return f"{text} ({low} to {high})"


def _lines(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Lines of `summarise` by variant."""
    return {line["variant"]: line for line in summarise(rows, None, FINAL)}


def _by_seed(rows: Sequence[dict[str, Any]], variant: str) -> dict[int, float]:
    return {row["seed"]: row["test_mAP"] for row in rows if row["variant"] == variant}


def _mean(found: Sequence[dict[str, Any]], measure: str) -> str:
    """Mean ± deviation over seeds; of a difference also the interval, the mean of the runs' own."""
    values = [pairs[measure] for pairs in found if pairs[measure] is not None]
    if not values:
        return NOT_RUN
    mean, std = mean_std(values)
    compared = measure.endswith("difference")
    text = signed(mean) if compared else f"{100 * mean:.1f}"
    if not math.isnan(std):
        text += f" ± {100 * std:.1f}"
    if compared:
        low, high = np.mean([pairs[f"{measure}_interval"] for pairs in found], axis=0)
        text += f" ({signed(low)} to {signed(high)})"
    return text
