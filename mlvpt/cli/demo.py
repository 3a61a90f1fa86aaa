"""`mlvpt demo`: the whole method on the embedded data, in minutes, on a laptop CPU.

Groups the labels, trains ML-VPT and VPT-deep with the same number of prompt tokens, compares
them where the labels' structure holds and where it is broken, and draws what ML-VPT learned.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from mlvpt import plots
from mlvpt.datasets import MultiLabelDataset, load_scenes
from mlvpt.errors import InputError
from mlvpt.files import Outputs
from mlvpt.grouping import (
    cooccurrence_affinity,
    cooccurrence_counts,
    exclusion_affinity,
    group_labels,
)
from mlvpt.images import eval_transform, normalize
from mlvpt.model import MLVPT
from mlvpt.plots.saving import is_own_figure, save_figure
from mlvpt.studies.ablations import scenes_base
from mlvpt.training.build import load_model
from mlvpt.training.config import TrainConfig
from mlvpt.training.console import layout
from mlvpt.training.loop import train
from mlvpt.training.recipes import change

# each at the learning rate that is best on val in results/lr_sweep.jsonl
METHODS = {
    "ML-VPT": {"model.method": "mlvpt", "optim.lr": 2e-2},
    "VPT-deep": {"model.method": "vpt_deep", "optim.lr": 0.2},
}

FIGURES = ("samples", "affinity_co", "affinity_dc", "gates_co", "gates_dc", "attention")


def main(options: Any) -> None:
    """`mlvpt demo`"""
    if options.epochs < 1:
        raise InputError(f"--epochs is {options.epochs}: train for at least one.")
    changes = {"optim.epochs": options.epochs, "optim.seed": options.seed}
    demo(Path(options.out), change(scenes_base(), changes))


def demo(out: Path, base: TrainConfig, *, progress: bool = True) -> list[dict[str, Any]]:
    """Group, train, compare, draw.

    Args:
        out: folder for the figures, and for the runs in runs/, which are made anew.
        base: settings that both trainings share.
        progress: show bars while training.

    Returns:
        A row per method: name, trained parameters, mAP on test and test_shifted as fractions,
        seconds.

    Raises:
        InputError: `out` has a folder runs/ that no demo made.
    """
    outputs = Outputs()
    for name in FIGURES:
        outputs.add(out / f"{name}.png", "--out", own=is_own_figure)
    runs = _fresh_folder(out / "runs")
    matplotlib.use("Agg")  # figures go to files; no screen is needed
    data = load_scenes("train", n_images=base.data.n_images)
    print(f"{len(data):,} scenes with handwritten digits. Their labels, grouped twice:\n")
    groups = group_labels(
        data.targets,
        n_groups=base.model.n_groups,
        tau=base.model.tau,
        class_names=data.class_names,
        seed=base.optim.seed,
    )
    print(f"{groups}\n")
    rows = []
    for name, changes in METHODS.items():
        print(f"Training {name} ...")
        run = runs / changes["model.method"]
        summary = train(change(base, changes), run, progress=progress)
        metrics = summary["results"]["metrics"]
        rows.append(
            {
                "method": name,
                "parameters": load_model(run).n_trainable,
                "test": metrics["test"]["mAP"],
                "test_shifted": metrics["test_shifted"]["mAP"],
                "seconds": summary["seconds"],
            }
        )
    print(f"\n{_table(rows)}\n")
    for name, figure in figures(load_model(runs / "mlvpt"), data).items():
        path = out / f"{name}.png"
        save_figure(figure, path, dpi=130)
        print(f"wrote {path}")
    return rows


def figures(model: MLVPT, train_data: MultiLabelDataset) -> dict[str, Figure]:
    """What the model was given and what it learned, by file name.

    Args:
        model: ML-VPT, trained on scenes.
        train_data: the scenes whose labels were grouped.
    """
    test = load_scenes("test")
    counts, groups = cooccurrence_counts(train_data.targets), model.groups
    transform = eval_transform(model.image_size)
    batch = torch.stack([transform(test.load_image(i)) for i in range(200)])
    images = normalize(batch, model.mean, model.std)
    with torch.inference_mode():
        output = model(images)
    probabilities = output.logits.sigmoid().numpy()
    shown = int(np.argmax((test.targets[:200] == 1).sum(axis=1)))  # the fullest scene
    present = np.flatnonzero(test.targets[shown] == 1)
    return {
        "samples": plots.prediction_grid(
            [test.load_image(i) for i in range(12)],
            test.targets[:12],
            probabilities[:12],
            class_names=test.class_names,
        ),
        "affinity_co": plots.affinity_heatmap(
            cooccurrence_affinity(counts), groups, "co", test.class_names
        ).figure,
        "affinity_dc": plots.affinity_heatmap(
            exclusion_affinity(counts), groups, "dc", test.class_names
        ).figure,
        "gates_co": plots.gate_heatmap(output.co_gates, groups, "co").figure,
        "gates_dc": plots.gate_heatmap(output.dc_gates, groups, "dc").figure,
        "attention": plots.attention_grid(
            test.load_image(shown), model.attention(images[shown : shown + 1])[0], groups, present
        ),
    }


def _fresh_folder(folder: Path) -> Path:
    """An empty folder, made anew if an earlier demo made it, and left alone if not."""
    mark = folder / ".made_by_mlvpt_demo"
    if folder.exists():
        if not mark.exists():
            raise InputError(
                f"{folder} holds no mark of a demo: remove it, or choose another folder with --out."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    mark.touch()
    return folder


def _table(rows: Sequence[dict[str, Any]]) -> str:
    table = [["method", "trained", "mAP test", "mAP test_shifted", "seconds"]]
    for row in rows:
        percent = (f"{100 * row[split]:.1f}" for split in ("test", "test_shifted"))
        table.append([row["method"], f"{row['parameters']:,}", *percent, f"{row['seconds']:.0f}"])
    note = "test_shifted has no co-occurrence to lean on: what is lost there was memorised."
    return f"{layout(table)}\n{note}"
