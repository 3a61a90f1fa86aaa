"""Commands about a trained model: evaluate, predict, export."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlvpt.cli.main import fail, parser_for, whole_number
from mlvpt.errors import InputError


def _run_model(run: str, device: str) -> tuple[Any, Any]:
    """The model of a run on a device, and the run's configuration (None for a bare model)."""
    from mlvpt.training import recipes
    from mlvpt.training.build import load_model
    from mlvpt.training.data import pick_device

    path = Path(run) / "config.json"
    config = recipes.load(path) if (Path(run) / "model").is_dir() and path.is_file() else None
    return load_model(run).to(pick_device(device)), config


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run folder, saved model, or Hugging Face repository id")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar in a terminal; call what it gives with the number of images done."""
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="img", disable=not sys.stderr.isatty(), leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)


def evaluate(argv: list[str]) -> None:
    """`mlvpt evaluate RUN`"""
    parser = parser_for("evaluate")
    _model_options(parser)
    parser.add_argument("--split", default="test", help="train, val, test; of scenes, test_shifted")
    parser.add_argument("--data.root", dest="root", help="where the data lies now")
    parser.add_argument("--batch-size", type=whole_number(1), default=64)
    parser.add_argument("--workers", type=whole_number(0), default=0)
    parser.add_argument("--json", type=Path, help="write every metric with its record")
    options = parser.parse_args(argv)
    import dataclasses
    import time

    from mlvpt.files import read_json
    from mlvpt.training import evaluation
    from mlvpt.training.data import load_data
    from mlvpt.training.folder import same_data
    from mlvpt.training.record import write_record

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


def predict(argv: list[str]) -> int:
    """`mlvpt predict RUN image...`: exit code 1 if a file could not be read."""
    parser = parser_for("predict")
    _model_options(parser)
    parser.add_argument("images", nargs="+", help="image files, folders or globs")
    parser.add_argument(
        "--threshold", default="0.5", help="a number in [0, 1], or 'tuned' for the run's per class"
    )
    parser.add_argument("--batch-size", type=whole_number(1), default=32)
    parser.add_argument("--workers", type=whole_number(0), default=0)
    parser.add_argument("--json", type=Path, help="write labels and probabilities as JSON")
    parser.add_argument("--csv", type=Path, help="write labels and probabilities as CSV")
    parser.add_argument("--annotate", type=Path, help="folder for annotated pictures")
    options = parser.parse_args(argv)
    from mlvpt.inference.predict import (
        annotate,
        check_annotation_folder,
        find_images,
        predict_files,
    )

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
    import numpy as np

    from mlvpt.files import read_json

    if word == "tuned":
        summary = read_json(Path(run) / "summary.json", "the thresholds tuned on val")
        return np.array(list(summary["results"]["thresholds"].values()))
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--threshold must be a number or 'tuned', got {word!r}.") from None


def export(argv: list[str]) -> None:
    """`mlvpt export RUN`"""
    parser = parser_for("export")
    parser.add_argument("run", help="run folder, saved model, or Hugging Face repository id")
    parser.add_argument("--format", default="onnx", help="onnx, torch or web")
    parser.add_argument("--output", type=Path, help="default: model.onnx, .pt2 or .bin in the run")
    options = parser.parse_args(argv)
    from mlvpt.inference.export import FORMATS, export_model

    model, _ = _run_model(options.run, "cpu")
    default = Path(options.run) if Path(options.run).is_dir() else Path()
    path = options.output or default / f"model{FORMATS.get(options.format, '')}"
    difference = export_model(model, path, options.format)
    print(f"{path}: differs from the model by at most {difference:.1e} in probability")
