"""The data of the book's live figures, made again: book/_static/live/.

Trains ML-VPT and VPT-deep on DigitScenes as `mlvpt demo` does, exports both for the browser, and
writes the handwriting that the figures draw with (the held-out pool) and the label counts that
they group. The models themselves go to tests/book/live_models, where tests compare them with the
page. A minute on one core.

    python data_prep/live_figures.py
"""

import argparse
import base64
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from mlvpt.cli.demo import METHODS
from mlvpt.datasets.shipped import label_statistics
from mlvpt.files import write_json
from mlvpt.inference.web import export_web
from mlvpt.studies.ablations import change, scenes_base
from mlvpt.training.build import load_model
from mlvpt.training.loop import train

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "book" / "_static" / "live"
MODELS = ROOT / "tests" / "book" / "live_models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    torch.set_num_threads(1)  # the same weights whatever the number of cores
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for name, changes in METHODS.items():
            run = Path(folder) / name
            train(change(scenes_base(), changes), run)
            models.append(load_model(run))
            models[-1].save_pretrained(MODELS / changes["model.method"])
        difference = export_web(models, out / "model.bin", list(METHODS))
    print(f"{out / 'model.bin'}: half precision changes probabilities by {difference:.1e} at most")
    write_json(out / "digits.json", handwriting())
    write_json(out / "labels.json", {name: counts(name) for name in ("voc2007", "coco2014")})


def handwriting() -> dict:
    """The digits that neither backbone nor models were trained on: every third of each class.

    Returns:
        labels: M digits as one string; ink: base64 of (M, 8, 8) bytes from 0 to 16.
    """
    digits = load_digits()
    position = np.zeros(len(digits.target), np.int64)  # rank of an image within its class
    for digit in range(10):
        members = np.flatnonzero(digits.target == digit)
        position[members] = np.arange(len(members))
    held_out = position % 3 == 2  # as mlvpt.datasets.scenes.digit_pool("test")
    ink = digits.images[held_out].astype(np.uint8)
    return {
        "labels": "".join(map(str, digits.target[held_out])),
        "ink": base64.b64encode(ink.tobytes()).decode(),
    }


def counts(name: str) -> dict:
    """Class names and co-occurrence counts (K, K) of a training set, a row as one string."""
    found = label_statistics(name)
    return {
        "n_images": found.n_images,
        "class_names": list(found.class_names),
        "counts": [" ".join(map(str, row)) for row in found.counts.tolist()],
    }


if __name__ == "__main__":
    main()
