"""What a frozen backbone's own features give: logistic regression, and the linear probe's training.

    python benchmarks/frozen_features.py voc2007_deit_tiny --data.root DIR
    python benchmarks/frozen_features.py clothing_deit_tiny --data.root DIR/labels.csv

A prompted model that stays under scikit-learn's logistic regression on the same backbone has not
been trained to the end. So this asks what the regression has that training by AdamW lacks: features
(class token, or class token and mean patch), penalty, or epochs. As in the studies on photographs,
choices are made on the validation images; then all training images are trained on and the test
images read. The record goes to results/RECIPE/frozen_features.json.

Further words are settings, such as --model.backbone_checkpoint FILE or --data.token_cache FOLDER.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from tqdm.auto import tqdm

from mlvpt.losses import AsymmetricLoss
from mlvpt.training.build import build_groups, build_model
from mlvpt.training.config import TrainConfig
from mlvpt.training.data import load_data
from mlvpt.training.evaluation import mean_ap
from mlvpt.training.recipes import change, load, recipe_path
from mlvpt.training.record import write_record
from mlvpt.training.tokens import kept

RESULTS = Path(__file__).parents[1] / "results"
PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # C of scikit-learn: the smaller, the stronger
EPOCHS = (10, 50)
RATES = (5e-3, 1e-2)
DECAYS = (1e-2, 1.0, 3.0, 10.0)


def features(config: TrainConfig, cache: str) -> dict[str, dict[str, np.ndarray]]:
    """{"train", "val", "test": {"targets": (N, K), "class": (N, D), "both": (N, 2 D)}}."""
    splits = load_data(config.data, config.optim.seed)
    names = splits.train.class_names
    groups = build_groups(config.model, splits.train.targets, names, 0)
    models = {
        pool: build_model(
            change(config, {"model.method": "linear_probe", "model.pool": pool}).model,
            groups,
            names,
        ).eval()
        for pool in ("class", "patches")
    }
    splits = kept(splits, models["class"], cache, True)
    found = {}
    for name, dataset in (("train", splits.train), ("val", splits.val), *splits.tests.items()):
        pooled: dict[str, list[np.ndarray]] = {pool: [] for pool in models}
        for start in tqdm(range(0, len(dataset), 64), desc=name):
            rows = range(start, min(start + 64, len(dataset)))
            tokens = torch.stack([dataset.load_image(i) for i in rows])
            for pool, model in models.items():
                with torch.inference_mode():
                    pooled[pool].append(model.tokens(tokens).mean(dim=1).numpy())
        parts = {pool: np.concatenate(rows) for pool, rows in pooled.items()}
        found[name] = {
            "targets": np.asarray(dataset.targets),
            "class": parts["class"],
            "both": np.concatenate([parts["class"], parts["patches"]], axis=1),
        }
    return found


def regression(train: np.ndarray, targets: np.ndarray, test: np.ndarray, c: float) -> np.ndarray:
    """Scores (N, K) of one L2-penalised logistic regression a class, unknown labels left out."""
    scores = np.empty((len(test), targets.shape[1]))
    for k, target in enumerate(targets.T):
        known = target != -1
        fitted = LogisticRegression(C=c, max_iter=5000).fit(train[known], target[known])
        scores[:, k] = fitted.decision_function(test)
    return scores


def probe(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    loss: nn.Module,
    epochs: int,
    rate: float,
    decay: float,
) -> np.ndarray:
    """Scores (N, K) of a linear layer trained as `mlvpt train` does: AdamW, one cycle, batch 64."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(train), torch.from_numpy(targets)
    head = nn.Linear(x.shape[1], y.shape[1])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    weights = {"params": [head.weight], "weight_decay": decay}
    optimizer = torch.optim.AdamW([weights, {"params": [head.bias], "weight_decay": 0.0}], lr=rate)
    n_steps = len(x) // 64 * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, n_steps, pct_start=0.2)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order[: len(x) // 64 * 64].split(64):
            optimizer.zero_grad()
            loss(head(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return head(torch.from_numpy(test)).numpy()


def measure(found: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """A row per way: settings, mAP in percent on val, and on test when trained on both splits."""
    train, val, test = found["train"], found["val"], found["test"]
    both = {name: np.concatenate([train[name], val[name]]) for name in train}
    ways: list[tuple[dict[str, Any], Any]] = [
        ({"method": "logistic regression", "features": kind, "C": c}, (regression, kind, c))
        for kind in ("class", "both")
        for c in PENALTIES
    ]
    ways += [
        (
            {
                "method": "AdamW",
                "features": "class",
                "loss": name,
                "epochs": epochs,
                "lr": rate,
                "weight_decay": decay,
            },
            (probe, "class", loss, epochs, rate, decay),
        )
        for name, loss in (("asl", AsymmetricLoss()), ("bce", AsymmetricLoss(gamma_neg=0)))
        for epochs in EPOCHS
        for rate in RATES
        for decay in DECAYS
    ]
    rows = []
    for settings, (fit, kind, *options) in tqdm(ways, desc="ways"):
        held_out = fit(train[kind], train["targets"], val[kind], *options)
        final = fit(both[kind], both["targets"], test[kind], *options)
        measured = {
            "val_mAP": round(100 * mean_ap(val["targets"], held_out), 2),
            "test_mAP": round(100 * mean_ap(test["targets"], final), 2),
        }
        rows.append({**settings, **measured})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options, words = parser.parse_known_args()
    settings = {
        name.removeprefix("--"): value for name, value in zip(*[iter(words)] * 2, strict=True)
    }
    config = change(load(recipe_path(options.recipe)), settings)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(features(config, config.data.token_cache or folder))
    path = options.out / options.recipe / "frozen_features.json"
    write_record(path, rows, seconds=time.perf_counter() - began, seed=config.optim.seed)
    for row in sorted(rows, key=lambda row: -row["val_mAP"])[:10]:
        print(row)


if __name__ == "__main__":
    main()
