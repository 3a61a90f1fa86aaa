"""What tests of training share: a tiny data set, a configuration for it, and processes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from mlvpt.datasets import load_scenes
from mlvpt.training.recipes import from_dict

ROOT = Path(__file__).parents[2]


def write_tiny_data(folder: Path) -> Path:
    """40 training, 10 validation and 10 test scenes as PNG files; gives the CSV's path."""
    with (folder / "tiny.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "split"])
        for split, n_images in (("train", 40), ("val", 10), ("test", 10)):
            scenes = load_scenes(split, n_images=n_images)
            for i in range(n_images):
                name = f"{split}_{i:02d}.png"
                scenes.load_image(i).save(folder / name)
                labels = [scenes.class_names[k] for k in range(10) if scenes.targets[i, k] == 1]
                writer.writerow([name, ";".join(labels), split])
    return folder / "tiny.csv"


def tiny_settings(csv_path: Path, **changes: object) -> dict:
    """Nested settings of a run of two epochs of five steps; `optim_lr=1` changes optim.lr."""
    nested = {
        "data": {"name": "manifest", "root": str(csv_path), "transform": "official"},
        "model": {"n_groups": 2, "experts_per_group": 2, "group_source": "random"},
        "optim": {"epochs": 2, "batch_size": 8, "lr": 5e-3, "device": "cpu"},
    }
    for name, value in changes.items():
        section, key = name.split("_", 1)
        nested.setdefault(section, {})[key] = value
    return nested


def tiny_config(csv_path: Path, **changes: object):
    return from_dict(tiny_settings(csv_path, **changes))


def options_of(settings: dict) -> list[str]:
    """The same settings as words of the command line."""
    return [
        f"--{section}.{key}={value}"
        for section, values in settings.items()
        for key, value in values.items()
    ]


def start_python(*words: str, **keywords: object) -> subprocess.Popen:
    """Start python with the package importable and one thread."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )
