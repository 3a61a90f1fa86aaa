"""DINOv3 ViT-S/16 by name, once through: trained, looked into, saved, loaded, exported.

    python benchmarks/dinov3.py    # three minutes of processor time, no downloads, random weights

It shows that every step works on a backbone with rotary positions; its weights are random, so
nothing is learnt that is worth a number of accuracy. The record goes to results/dinov3.json.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mlvpt.cli.main import main as command_line
from mlvpt.datasets import load_scenes
from mlvpt.images import eval_transform, normalize
from mlvpt.inference.export import FORMATS, export_model
from mlvpt.model import MLVPT
from mlvpt.training.build import load_model
from mlvpt.training.record import write_record

PATH = Path(__file__).parents[1] / "results" / "dinov3.json"
TRAIN = (
    "--data.name scenes --data.n_images 200 --model.backbone vit_small_patch16_dinov3 "
    "--model.pretrained false --model.image_size 64 --model.n_groups 4 --optim.epochs 1 --quiet"
)


def once_through(folder: Path, train: str, formats: Sequence[str]) -> dict[str, Any]:
    """The steps one by one, in a folder of their own, and what came out of each."""
    start = time.perf_counter()
    run = folder / "run"
    if status := command_line(["train", *train.split(), "--out", str(run)]):
        raise SystemExit(status)
    found: dict[str, Any] = {"train": f"mlvpt train {train}"}
    found["train_seconds"] = round(time.perf_counter() - start, 1)
    (line,) = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found["loss"] = json.loads(line)["loss"]
    model = load_model(run)
    found["class"] = type(model.vit).__name__
    found["prefix_form"] = model.prompted_vit.has_prefix_form
    found["prompts"] = list(model.prompted_vit.prompts.shape)  # (L, P, D)

    scenes = load_scenes("test", n_images=8)
    pictures = [scenes.load_image(i) for i in range(8)]
    to_tensor = eval_transform(model.image_size)
    batch = normalize(torch.stack(list(map(to_tensor, pictures))), model.mean, model.std)
    maps = model.prompted_vit.attention(batch)  # (B, P, h, w)
    found["attention_maps"] = list(maps.shape)
    found["attention_on_patches"] = round(float(maps.flatten(2).sum(-1).mean()), 4)

    model.save_pretrained(folder / "saved")
    again = MLVPT.from_pretrained(folder / "saved")
    equal = torch.equal(again.probabilities(pictures), model.probabilities(pictures))
    found["loaded_answers_equal"] = equal
    for name in formats:
        path = folder / f"model{FORMATS[name]}"
        found[f"{name}_difference"] = export_model(model, path, name)
        found[f"{name}_mb"] = round(path.stat().st_size / 1e6, 1)
    return found


def main() -> None:
    """Take the steps and write the record."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = once_through(Path(folder), TRAIN, ("torch", "onnx"))
    print(json.dumps(found, indent=2))
    seconds = time.perf_counter() - start
    write_record(PATH, found, seconds=seconds, seed=0, device=torch.device("cpu"))


if __name__ == "__main__":
    main()
