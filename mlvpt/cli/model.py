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
from mlvpt.files import Outputs, output_to_standard
from mlvpt.grouping import cooccurrence_counts
from mlvpt.inference import export as exporting
from mlvpt.inference.predict import annotate, check_annotated, find_images, predict_files
from mlvpt.studies.pairs import Pairs, held_against, pairs_of_run, pairs_table, read_pairs
from mlvpt.training import evaluation, recipes
from mlvpt.training.build import load_model
from mlvpt.training.data import load_data, pick_device
from mlvpt.training.folder import RunFolder, read_split, run_files, run_thresholds, same_data
from mlvpt.training.record import write_record


def _run_model(run: str, device: str) -> tuple[Any, Any]:
    """The model of a run on a device, and the run's configuration (None for a bare model)."""
    path = Path(run) / "config.json"
    config = None
    if (Path(run) / "model").is_dir() and path.is_file():
        config = recipes.load(path)
        RunFolder(run).check_settings(config)
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
    parts = splits.parts
    if options.split not in parts:
        raise InputError(
            f"there is no split {options.split!r} of {data.name}: it has {', '.join(parts)}."
        )
    stored = Path(options.run) / "split.json"
    if options.split in ("train", "val") and not same_data(read_split(stored), splits):
        raise InputError(
            f"the data changed since {options.run} was trained, so its {options.split} images "
            "cannot be told from the others: restore the data, or evaluate the test split."
        )
    part = parts[options.split]
    if list(part.class_names) != list(model.class_names):
        raise InputError(f"the classes of {data.name} are not those that the model was trained on.")
    inputs = (*run_files(options.run), *part.image_paths(), data.root, options.pairs)
    outputs = Outputs(filter(None, inputs))
    outputs.add(options.json, "--json")
    summary = Path(options.run) / "summary.json"
    thresholds = run_thresholds(options.run, model.class_names) if summary.is_file() else None
    pairs = _pairs(options, config, splits)
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
    if pairs is not None:
        counts = cooccurrence_counts(splits.train.targets)
        found[options.split]["bias"] = held_against(
            part.targets, probabilities, part.class_names, pairs, thresholds, counts
        )
    if options.json:
        device = next(model.parameters()).device
        seconds = time.perf_counter() - began
        write_record(options.json, found, seconds=seconds, seed=config.optim.seed, device=device)
    if not output_to_standard(options.json):
        print(evaluation.metrics_table(found))
        if pairs is not None:
            print(f"\n{pairs_table(found[options.split]['bias'])}")


def _pairs(options: Any, config: Any, splits: Any) -> Pairs | None:
    """The pairs of classes that were asked for, or those that the run and its data allow."""
    names = splits.train.class_names
    if options.pairs is not None:
        return read_pairs(options.pairs, names)
    stored = Path(options.run) / "split.json"
    known = config.data.hold_out and stored.is_file() and same_data(read_split(stored), splits)
    chosen_on = ("train", "val")  # pairs of the run's own model would be measured where it chose
    own = splits.val.targets if known and options.split not in chosen_on else None
    return pairs_of_run(options.run, names, own)


def predict(options: Any) -> int:
    """`mlvpt predict RUN image...`: exit code 1 if a file could not be read."""
    paths = find_images(options.images)
    outputs = Outputs([*paths, *run_files(options.run)])
    outputs.add(options.json, "--json")
    outputs.add(options.csv, "--csv")
    if options.annotate:
        check_annotated(paths, options.annotate, outputs)
    model, _ = _run_model(options.run, options.device)
    with _bar(len(paths)) as on_batch:
        predictions = predict_files(
            model,
            paths,
            thresholds=_thresholds(options.threshold, options.run, model.class_names),
            batch_size=options.batch_size,
            workers=options.workers,
            on_batch=on_batch,
        )
    # files first: what is printed may meet a closed pipe
    if options.json:
        predictions.to_json(options.json)
    if options.csv:
        predictions.to_csv(options.csv)
    if options.annotate:
        annotate(model, predictions, options.annotate)
    if not output_to_standard(options.json, options.csv):
        print(predictions.table())
    for problem in predictions.problems.values():
        fail(problem, 1)
    return 1 if predictions.problems else 0


def _thresholds(word: str, run: str, class_names: tuple[str, ...]) -> Any:
    if word == "tuned":
        thresholds = run_thresholds(run, class_names)
        if thresholds is None:
            raise InputError(
                f"the run {run} tuned no thresholds, since it trained on its validation images "
                "too: give --threshold a number."
            )
        return np.array(thresholds)
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--threshold must be a number or 'tuned', got {word!r}.") from None


def export(options: Any) -> None:
    """`mlvpt export RUN`"""
    folder = Path(options.run) if Path(options.run).is_dir() else Path()
    path = options.output or folder / f"model{exporting.FORMATS.get(options.format, '')}"
    exporting.check_format(options.format)
    outputs = Outputs(run_files(options.run))
    outputs.add(path, "--output")
    outputs.add(exporting.about_path(path), "the description of --output", own=exporting.is_about)
    model, _ = _run_model(options.run, "cpu")
    difference = exporting.export_model(model, path, options.format)
    if not output_to_standard(path):
        print(f"{path}: differs from the model by at most {difference:.1e} in probability")
