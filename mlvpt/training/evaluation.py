"""Probabilities of a whole data set, on one device or many, and every metric of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from mlvpt.classifier import DIVERGED
from mlvpt.datasets import MultiLabelDataset
from mlvpt.errors import InputError
from mlvpt.images import eval_transform
from mlvpt.metrics import average_precision, bootstrap_map, multilabel_metrics, tune_thresholds
from mlvpt.training.console import layout
from mlvpt.training.data import EvaluationImages, as_is, make_loader, model_input
from mlvpt.training.tokens import KeptTokens

UNREADABLE = -1.0  # the probability of classes in an image that could not be read, until gathered


@torch.no_grad()
def predict_dataset(
    model: Any,
    dataset: MultiLabelDataset,
    *,
    batch_size: int = 64,
    workers: int = 0,
    skip_corrupt: bool = False,
    accelerator: Accelerator | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Probability of every class in every image of a data set.

    The last batch is filled up with copies of the last image, decoded once, and what is padding is
    dropped by position: each image is computed in the same batch, and counted once, whatever the
    number of processes.

    Args:
        model: called with normalised images (B, 3, H, W); gives an object with `.logits`.
        dataset: N images.
        batch_size: images per process.
        workers: processes that load images.
        skip_corrupt: give a row of NaN for an unreadable image instead of raising.
        accelerator: of the run; None: the device that the model is on, this process alone.
        on_batch: called with the number of images done, for a progress bar.

    Returns:
        (N, K) float64 in [0, 1], the same on every process.

    Raises:
        InputError: an unreadable image, unless they are skipped; an empty data set; a model that
            gives NaN.
    """
    n_images = len(dataset)
    if n_images == 0:
        raise InputError("there are no images to predict: the data set is empty.")
    device = next(model.parameters()).device
    rank, share = (0, 1)
    if accelerator is not None:
        rank, share = accelerator.process_index, accelerator.num_processes
    starts = range(0, n_images, batch_size)
    batches = [list(range(i, min(i + batch_size, n_images))) for i in starts]
    batches += [[n_images - 1]] * (-len(batches) % share)  # every process computes as many
    transform = as_is if isinstance(dataset, KeptTokens) else eval_transform(model.image_size)
    images = EvaluationImages(dataset, transform, model.image_size, skip_corrupt)
    loader = make_loader(images, batches[rank::share], workers, on_gpu=device.type == "cuda")
    was_training = model.training
    model.eval()
    rows = []
    try:
        for pixels, readable in loader:
            pixels = _padded(pixels, batch_size).to(device, non_blocking=True)
            readable = _padded(readable, batch_size)
            logits = model(model_input(model, pixels)).logits
            found = logits.float().sigmoid()
            found = found.masked_fill(~readable.to(device)[:, None], UNREADABLE)
            # gathered in the order of the processes, which is the order of the batches
            rows.append(accelerator.gather(found) if accelerator is not None else found)
            if on_batch is not None:
                on_batch(min(len(rows) * len(rows[-1]), n_images))
    finally:
        model.train(was_training)
    found = torch.cat(rows)[:n_images].cpu().double().numpy()
    if np.isnan(found).any():  # NaN must not pass for an image that could not be read
        raise InputError(DIVERGED)
    found[found == UNREADABLE] = np.nan
    return found


def _padded(batch: torch.Tensor, batch_size: int) -> torch.Tensor:
    """The batch with copies of its last row up to the batch size."""
    missing = batch_size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch


def readable_rows(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the rows of images that could not be read (NaN)."""
    kept = ~np.isnan(probabilities).any(axis=1)
    return targets[kept], probabilities[kept]


def mean_ap(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """mAP ("area") over the classes with positives: the number that epochs are selected on."""
    values = average_precision(*readable_rows(targets, probabilities))
    if np.isnan(values).all():
        raise InputError("no class has a positive label in the validation images: enlarge them.")
    return float(np.nanmean(values))


def evaluate(
    targets: np.ndarray,
    probabilities: np.ndarray,
    class_names: list[str],
    thresholds: np.ndarray | list[float] | None = None,
) -> dict[str, Any]:
    """Every metric of a split.

    Args:
        targets: (N, K) in {1, 0, -1}.
        probabilities: (N, K); rows of NaN are images that were skipped.
        class_names: K names.
        thresholds: (K,) tuned on validation images; None leaves those metrics out.

    Returns:
        JSON-able dict of fractions: mAP ("area"), mAP_voc2010, mAP_voc2007, mAP_interval (95%,
        bootstrap over images), at_0.5, at_tuned and top3 (each with CP, CR, CF1, OP, OR, OF1,
        macro_F1), per_class {name: {AP, positives}} with AP None for a class without positives,
        excluded_classes, n_images, n_skipped.
    """
    n_all = len(targets)
    targets, probabilities = readable_rows(targets, probabilities)
    base = multilabel_metrics(targets, probabilities, class_names=class_names)
    names = ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_F1")
    result = {"mAP": base["mAP"]}
    for definition in ("voc2010", "voc2007"):
        per_class = average_precision(targets, probabilities, definition)
        result[f"mAP_{definition}"] = float(np.nanmean(per_class))
    result["mAP_interval"] = list(bootstrap_map(targets, probabilities))
    result["at_0.5"] = {name: base[name] for name in names}
    if thresholds is not None:
        tuned = multilabel_metrics(targets, probabilities, np.asarray(thresholds), top_k=None)
        result["at_tuned"] = {name: tuned[name] for name in names}
    result["top3"] = {name: base[f"top3_{name}"] for name in names}
    counted = zip(class_names, base["ap_per_class"], base["n_positives"], strict=True)
    result["per_class"] = {name: {"AP": ap, "positives": n} for name, ap, n in counted}
    result["excluded_classes"] = base["excluded_classes"]
    result["n_images"] = len(targets)
    result["n_skipped"] = n_all - len(targets)
    return result


def tuned_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """(K,) threshold per class with the best F1; give validation images, never test."""
    return tune_thresholds(*readable_rows(targets, probabilities)).tolist()


def metrics_table(results: dict[str, dict[str, Any]]) -> str:
    """Evaluations as an aligned table in percent.

    Args:
        results: {split: what `evaluate` returned}.
    """
    lines = [["split", "mAP", "95% interval", "voc2010", "voc2007", "CF1", "OF1", "images"]]
    for split, found in results.items():
        low, high = found["mAP_interval"]
        numbers = (found["mAP"], found["mAP_voc2010"], found["mAP_voc2007"])
        area, voc2010, voc2007 = (f"{100 * value:.2f}" for value in numbers)
        f1 = [f"{100 * found['at_0.5'][name]:.2f}" for name in ("CF1", "OF1")]
        interval = f"{100 * low:.2f}-{100 * high:.2f}"
        lines.append([split, area, interval, voc2010, voc2007, *f1, f"{found['n_images']:,}"])
    return layout(lines)
