"""Commands about a trained model: evaluate, predict, export."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mlvpt.cli.main import fail
from mlvpt.errors import InputError
from mlvpt.files import read_json
from mlvpt.inference import export as exporting
from mlvpt.inference.predict import annotate, check_annotation_folder, find_images, predict_files
from mlvpt.training import evaluation, recipes
from mlvpt.training.build import load_model
from mlvpt.training.data import load_data, pick_device
from mlvpt.training.folder import same_data
from mlvpt.training.record import write_record


def _run_model(run: str, device: str) -> tuple[Any, Any]:
    """The model of a run on a device, and the run's configuration (None for a bare model)."""
    path = Path(run) / "config.json"
    config = recipes.load(path) if (Path(run) / "model").is_dir() and path.is_file() else None
    return load_model(run).to(pick_device(device)), config


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar in a terminal; call what it gives with the number of images done."""
    with tqdm(total=total, unit="img", disable=not sys.stderr.isatty(), leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)


def evaluate(options: Any) -> None:
    """`mlvpt evaluate RUN`"""
    began = time.perf_counter()
    model, config = _run_model(options.run, options.device)
    if config is None:
        raise InputError(f"{options.run} is no run folder, so its data is unknown.")
    data = config.data
    if options.root:
        data = dataclasses.replace(data, root=options.root)
    splits = load_data(data, config.optim.seed)
    parts = {"train": splits.train, "val": splits.val, **splits.tests}
    if options.split not in parts:
        raise InputError(
            f"there is no split {options.split!r} of {data.name}: it has {', '.join(parts)}."
        )
    if options.split in ("train", "val"):
        stored = read_json(Path(options.run) / "split.json", "the split of the data")
        if not same_data(stored, splits):
            raise InputError(
                f"the data changed since {options.run} was trained, so its {options.split} images "
                "cannot be told from the others: restore the data, or evaluate the test split."
            )
    part = parts[options.split]
    if list(part.class_names) != list(model.class_names):
        raise InputError(f"the classes of {data.name} are not those that the model was trained on.")
    thresholds = None
    summary = Path(options.run) / "summary.json"
    if summary.is_file():
        thresholds = list(read_json(summary, "the summary")["results"]["thresholds"].values())
    with _bar(len(part)) as on_batch:
        probabilities = evaluation.predict_dataset(
            model,
            part,
            batch_size=options.batch_size,
            workers=options.workers,
            skip_corrupt=data.skip_corrupt,
            on_batch=on_batch,
        )
    found = {
        options.split: evaluation.evaluate(
            part.targets, probabilities, part.class_names, thresholds
        )
    }
    print(evaluation.metrics_table(found))
    if options.json:
        device = next(model.parameters()).device
        seconds = time.perf_counter() - began
        write_record(options.json, found, seconds=seconds, seed=config.optim.seed, device=device)


def predict(options: Any) -> int:
    """`mlvpt predict RUN image...`: exit code 1 if a file could not be read."""
    paths = find_images(options.images)
    if options.annotate:
        check_annotation_folder(paths, options.annotate)
    model, _ = _run_model(options.run, options.device)
    with _bar(len(paths)) as on_batch:
        predictions = predict_files(
            model,
            paths,
            thresholds=_thresholds(options.threshold, options.run),
            batch_size=options.batch_size,
            workers=options.workers,
            on_batch=on_batch,
        )
    print(predictions.table())
    if options.json:
        predictions.to_json(options.json)
    if options.csv:
        predictions.to_csv(options.csv)
    if options.annotate:
        annotate(model, predictions, options.annotate)
    for problem in predictions.problems.values():
        fail(problem, 1)
    return 1 if predictions.problems else 0


def _thresholds(word: str, run: str) -> Any:
    if word == "tuned":
        summary = read_json(Path(run) / "summary.json", "the thresholds tuned on val")
        return np.array(list(summary["results"]["thresholds"].values()))
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--threshold must be a number or 'tuned', got {word!r}.") from None


def export(options: Any) -> None:
    """`mlvpt export RUN`"""
    model, _ = _run_model(options.run, "cpu")
    default = Path(options.run) if Path(options.run).is_dir() else Path()
    path = options.output or default / f"model{exporting.FORMATS.get(options.format, '')}"
    difference = exporting.export_model(model, path, options.format)
    print(f"{path}: differs from the model by at most {difference:.1e} in probability")
