"""A whole run of VOC2007's size: 5,011 + 4,952 generated photos, ViT-B/16, 224 px, 40 epochs.

    python benchmarks/voc_size_run.py                                    # on a GPU, minutes
    python benchmarks/voc_size_run.py --images 32 --epochs 1 --device cpu --precision no  # a try

Photos and labels are generated and the backbone's weights are random: the record tells seconds,
images per second and peak memory, and nothing about accuracy. The settings are those of the recipe
voc2007_vit_b16_in1k. The record goes to results/voc_size_run.json.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlvpt.datasets.voc import VOC_CLASSES
from mlvpt.training import recipes
from mlvpt.training.loop import train
from mlvpt.training.record import write_record

RESULTS = Path(__file__).parents[1] / "results"


def write_photo(folder: Path, number: int) -> None:
    """A JPEG file of a photo's size, with detail at two scales so that decoding costs as much."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((375, 500, 3), np.float32)
    for side, weight in ((12, 0.7), (120, 0.3)):
        noise = rng.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)
        pixels += weight * np.asarray(layer, np.float32)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)


def write_devkit(root: Path, sizes: dict[str, int]) -> None:
    """VOCdevkit/VOC2007 under `root` with generated photos and labels."""
    base = root / "VOCdevkit" / "VOC2007"
    photos, sets = base / "JPEGImages", base / "ImageSets" / "Main"
    photos.mkdir(parents=True)
    sets.mkdir(parents=True)
    rng, first = np.random.default_rng(0), 1
    for split, n_images in sizes.items():
        numbers = range(first, first + n_images)
        first += n_images
        labels = np.where(rng.random((n_images, len(VOC_CLASSES))) < 0.075, 1, -1)
        labels[np.arange(n_images), rng.integers(0, len(VOC_CLASSES), n_images)] = 1
        (sets / f"{split}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
        for k, name in enumerate(VOC_CLASSES):
            lines = [f"{n:06d} {v:2d}\n" for n, v in zip(numbers, labels[:, k], strict=True)]
            (sets / f"{name}_{split}.txt").write_text("".join(lines))
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(write_photo, photos), numbers, chunksize=32))


def run(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Generate, train, and pick out what was measured: (results, the run's own record)."""
    began = time.perf_counter()
    share = options.images / 5011
    write_devkit(folder, {"trainval": options.images, "test": max(1, round(4952 * share))})
    generated = time.perf_counter() - began
    values = recipes.read_dict(recipes.recipe_path("voc2007_vit_b16_in1k"))
    values["data"]["root"] = str(folder)
    values["model"]["pretrained"] = False
    values["optim"] |= {
        "epochs": options.epochs,
        "workers": options.workers,
        "precision": options.precision,
        "compile": options.compile,
        "device": options.device,
    }
    summary = train(recipes.from_dict(values), folder / "run")
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines]
    results = {
        "weights": "random",
        "images": options.images,
        "epochs": len(lines),
        "train_images_per_second_first_epoch": speeds[0],
        "train_images_per_second_median": float(np.median(speeds)),
        "seconds_to_generate_photos": round(generated, 1),
        "settings": {name: str(value) for name, value in vars(options).items() if name != "out"},
    }
    return results, summary


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5011)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "voc_size_run.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results, summary = run(options, Path(folder))
    made = write_record(options.out, results, seconds=summary["seconds"], seed=0)
    made |= {key: summary[key] for key in ("device", "peak_memory_mb")}
    options.out.write_text(json.dumps(made, indent=2) + "\n")
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
