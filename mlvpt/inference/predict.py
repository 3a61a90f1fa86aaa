"""Predictions for image files: batched, as a table, JSON, CSV or annotated pictures.

A file that cannot be read is named, and does not keep the others from being answered.
"""

import csv
import glob
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mlvpt.datasets import MultiLabelDataset
from mlvpt.errors import InputError
from mlvpt.files import Outputs, write_json, write_text
from mlvpt.images import NO_PICTURE, OTHER_PICTURES, eval_transform, normalize, open_rgb
from mlvpt.training.evaluation import predict_dataset


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model for some image files.

    Attributes:
        paths: N files that could be read.
        probabilities: (N, K) in [0, 1].
        class_names: K names.
        thresholds: (K,) a probability that reaches its threshold is a label.
        problems: {path: sentence} of the files that could not be read.
    """

    paths: list[Path]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    thresholds: np.ndarray
    problems: dict[Path, str]

    def labels(self, index: int) -> dict[str, float]:
        """{class name: probability} of the labels of one file, most probable first."""
        row = self.probabilities[index]
        order = [int(k) for k in np.argsort(-row) if row[k] >= self.thresholds[k]]
        return {self.class_names[k]: float(row[k]) for k in order}

    def table(self) -> str:
        """A line per file: its name, and its labels with their probabilities in percent."""
        width = max((len(str(path)) for path in self.paths), default=0)
        lines = []
        for index, path in enumerate(self.paths):
            found = [f"{name} {100 * p:.1f}%" for name, p in self.labels(index).items()]
            lines.append(f"{path!s:<{width}}  {', '.join(found) or '(no label)'}")
        return "\n".join(lines)

    def to_json(self, path: str | Path) -> None:
        """Write a list with a dict per file: image, labels, and the probability of every class."""
        rows = [
            {
                "image": str(file),
                "labels": self.labels(index),
                "probabilities": dict(
                    zip(self.class_names, self.probabilities[index].tolist(), strict=True)
                ),
            }
            for index, file in enumerate(self.paths)
        ]
        rows += [{"image": str(file), "problem": text} for file, text in self.problems.items()]
        write_json(path, rows)

    def to_csv(self, path: str | Path) -> None:
        """Write a row per file: image, labels separated by `;`, and a column per class."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["image", "labels", *self.class_names])
        for index, file in enumerate(self.paths):
            numbers = [f"{value:.6f}" for value in self.probabilities[index]]
            writer.writerow([file, ";".join(self.labels(index)), *numbers])
        write_text(path, text.getvalue())


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """The image files that files, folders and globs name, each once, in order.

    What may not be read, a file in a closed folder or the folder itself, is among them: it is
    named when it is opened, and does not keep the others from being answered.

    Args:
        patterns: files (taken whatever their suffix), folders (searched through, for suffixes
            of pictures), and globs such as "photos/**/*.jpg".

    Raises:
        InputError: a pattern that names nothing, or a folder without images.
    """
    if isinstance(patterns, str | os.PathLike):
        patterns = [patterns]
    found: list[Path] = []
    for pattern in map(str, patterns):
        path = Path(pattern)
        is_folder = os.path.isdir(path)
        if is_folder:
            files = _images_in(path)
        elif os.path.isfile(path) or _is_closed(path):
            files = [path]
        else:
            matches = [] if "\0" in pattern else sorted(glob.glob(pattern, recursive=True))
            files = [Path(match) for match in matches if os.path.isfile(match)]
        if not files:
            what = "holds no image" if is_folder else "names no file"
            raise InputError(f"{pattern} {what}: give image files, folders or globs.")
        found += files
    return list(dict.fromkeys(found))


def _images_in(folder: Path) -> list[Path]:
    """The files in a folder and below it with the suffix of a picture, and the closed folders.

    The files `._name` that macOS leaves beside pictures on foreign disks are passed over.
    """
    Image.init()
    known = {
        suffix
        for suffix, kind in Image.EXTENSION.items()
        if kind in Image.OPEN and kind not in NO_PICTURE
    }
    known.update(OTHER_PICTURES)
    found: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: found.append(Path(error.filename)))
    for place, _, names in walk:
        found += [
            Path(place, name)
            for name in names
            if os.path.splitext(name)[1].lower() in known and not name.startswith("._")
        ]
    return sorted(
        path for path in found if os.path.isfile(path) or os.path.isdir(path) or _is_closed(path)
    )


def _is_closed(path: Path) -> bool:
    """Whether this account may not even look at a path."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False


def predict_files(
    model: Any,
    paths: list[Path],
    *,
    thresholds: float | np.ndarray = 0.5,
    batch_size: int = 32,
    workers: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Predictions:
    """Predict the labels of image files.

    Args:
        model: as `load_model` gives it.
        paths: image files.
        thresholds: one in [0, 1] for all classes, or (K,).
        batch_size, workers, on_batch: see `predict_dataset`.

    Raises:
        InputError: a threshold outside [0, 1], or another number of them than classes.
    """
    names = tuple(model.class_names)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if (
        thresholds.shape not in ((), (len(names),))
        or not ((thresholds >= 0) & (thresholds <= 1)).all()
    ):
        raise InputError(f"thresholds must be one number in [0, 1] or {len(names)} of them.")
    dataset = MultiLabelDataset(
        targets=np.zeros((len(paths), len(names)), np.int8),
        class_names=names,
        images=paths,
        image_ids=[str(path) for path in paths],
    )
    probabilities = predict_dataset(
        model,
        dataset,
        batch_size=min(batch_size, len(paths)),
        workers=workers,
        skip_corrupt=True,
        on_batch=on_batch,
    )
    bad = np.isnan(probabilities).any(axis=1)
    return Predictions(
        [path for path, is_bad in zip(paths, bad, strict=True) if not is_bad],
        probabilities[~bad],
        names,
        np.broadcast_to(thresholds, (len(names),)),
        {paths[i]: _problem(paths[i]) for i in np.flatnonzero(bad)},
    )


def _problem(path: Path) -> str:
    try:
        open_rgb(path)
    except InputError as error:
        return str(error)
    return f"{path} could not be read a moment ago, and now can: predict it again."


def annotated_paths(paths: Iterable[Path], folder: str | Path) -> dict[Path, Path]:
    """The annotated picture of each image: called like it, with .png, and no two alike.

    Args:
        paths: images, some perhaps of one name in different folders.
        folder: of the annotated pictures.
    """
    found: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in sorted(set(paths)):  # whatever the order, an image keeps its name
        stem = path.stem.encode()[:240].decode(errors="ignore")  # a name may have 255 bytes
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        found[path] = Path(folder) / f"{name}.png"
    return found


def check_annotated(paths: list[Path], folder: str | Path, outputs: Outputs | None = None) -> None:
    """Refuse a folder in which annotated pictures would replace what this package did not write.

    Args:
        paths: the images.
        folder: of the annotated pictures.
        outputs: of the command, which names its other files.

    Raises:
        InputError: an image lies in the folder, or a picture of the user's has the name of one to
            be written.
    """
    from mlvpt.plots.saving import is_own_figure

    if Path(folder).resolve() in {path.resolve().parent for path in paths}:
        raise InputError(f"{folder} holds the images themselves: annotate into another folder.")
    outputs = outputs or Outputs(paths)
    for target in annotated_paths(paths, folder).values():
        outputs.add(target, "--annotate", own=is_own_figure)


def annotate(model: Any, predictions: Predictions, folder: str | Path) -> list[Path]:
    """Write a picture per file: the image, its labels, and where their groups' prompts look.

    Args:
        model: the model that predicted.
        predictions: what it said.
        folder: made when needed; for the names see `annotated_paths`.

    Returns:
        The files written.

    Raises:
        InputError: `folder` holds some of the images themselves, or a file of the user's that has
            the name of a picture to be written.
    """
    from mlvpt.plots.predictions import prediction_figure
    from mlvpt.plots.saving import save_figure

    images = [*predictions.paths, *predictions.problems]
    check_annotated(images, folder)
    targets = annotated_paths(images, folder)
    transform = eval_transform(model.image_size)
    device = next(model.parameters()).device
    written: list[Path] = []
    for index, path in enumerate(predictions.paths):
        image = open_rgb(path)
        attention = None
        if model.groups is not None:
            batch = normalize(transform(image)[None].to(device), model.mean, model.std)
            with torch.no_grad():
                attention = model.attention(batch)[0].float().cpu().numpy()  # (views, G, h, w)
        figure = prediction_figure(
            image,
            predictions.labels(index),
            class_names=predictions.class_names,
            groups=model.groups,
            attention=attention,
            views=model.options.get("views", ["co", "dc"]),
        )
        save_figure(figure, targets[path], dpi=120)
        written.append(targets[path])
    return written
