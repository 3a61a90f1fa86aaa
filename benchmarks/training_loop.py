"""The training loop itself: how much of a step is waiting for images, and how fast it is.

    python benchmarks/training_loop.py                          # ViT-S/16, 224 px, about 2 minutes
    python benchmarks/training_loop.py --backbone vit_base_patch16_224 --batch-size 64 \\
        --images 2048 --workers 16 --precision bf16 --device auto   # on a GPU

Generated JPEG files of 500 x 375 pixels, the release's augmentation, random weights (speed does not
depend on them). Epoch 1 decodes the files, epoch 2 reads them from the decoded cache. "Waiting" is
the time in which the loop has no batch; with workers it overlaps with the step before. The record
goes to results/training_loop.json.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlvpt.training.console import StopSignals
from mlvpt.training.folder import RunFolder
from mlvpt.training.loop import train_epoch
from mlvpt.training.recipes import from_dict
from mlvpt.training.record import write_record
from mlvpt.training.run import Run, make_accelerator

RESULTS = Path(__file__).parents[1] / "results"


def write_photos(folder: Path, n_images: int, seed: int = 0) -> Path:
    """JPEG files of a photo's size and frequency content, and a manifest with random labels."""
    rng = np.random.default_rng(seed)
    with (folder / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for i in range(n_images):
            coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            photo = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            photo.save(folder / f"{i:06d}.jpg", quality=90)
            labels = np.flatnonzero(rng.random(20) < 0.1).tolist() or [i % 20]
            writer.writerow([f"{i:06d}.jpg", ";".join(f"class{k}" for k in labels)])
    return folder / "photos.csv"


class TimedLoader:
    """A loader that adds up the time in which the loop waits for it."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.waiting = 0.0

    def __iter__(self) -> Iterator[Any]:
        batches, end = iter(self.loader), object()
        while True:
            began = time.perf_counter()
            batch = next(batches, end)
            self.waiting += time.perf_counter() - began
            if batch is end:
                return
            yield batch


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Two epochs: {"decoding": {...}, "cached": {...}} with images/s and the share of waiting."""
    manifest = write_photos(folder, options.images)
    config = from_dict(
        {
            "data": {
                "name": "manifest",
                "root": str(manifest),
                "transform": "official",
                "cache_gb": 8,
            },
            "model": {"backbone": options.backbone, "pretrained": False, "image_size": 224},
            "optim": {
                "epochs": 2,
                "batch_size": options.batch_size,
                "workers": options.workers,
                "precision": options.precision,
                "device": options.device,
                "compile": options.compile,
            },
        }
    )
    run_folder = RunFolder(folder / "run")
    run = Run(
        config,
        run_folder,
        make_accelerator(config, run_folder),
        StopSignals(run_folder.kept),
        False,
    )
    run.loader = TimedLoader(run.loader)
    found = {}
    with run.bar:
        for name in ("decoding", "cached"):
            run.loader.waiting = 0.0
            began = time.perf_counter()
            train_epoch(run)
            seconds = time.perf_counter() - began
            run.position.epoch, run.position.batch = run.position.epoch + 1, 0
            found[name] = {
                "images_per_second": round(run.images_per_second, 2),
                "step_seconds": round(seconds / run.batches.per_epoch, 4),
                "waiting_share": round(run.loader.waiting / seconds, 4),
            }
    return found


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", default="no")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "training_loop.json")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    for name, numbers in found.items():
        print(
            f"{name:<9} {numbers['images_per_second']:8.1f} img/s   "
            f"waiting for images {100 * numbers['waiting_share']:.1f}% of a step"
        )
    write_record(
        options.out, {**found, "settings": settings}, seconds=time.perf_counter() - began, seed=0
    )


if __name__ == "__main__":
    main()
