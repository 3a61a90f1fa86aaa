"""Download, unpack and count Clothing Co-Parsing, and write its labels as a manifest.

    python data_prep/clothing.py --root data

makes data/clothing-co-parsing with labels.csv in it, which
`load_manifest("data/clothing-co-parsing/labels.csv", split="train")` reads. A clone of the
repository that is there already is used as it is.

```
clothing-co-parsing/
  label_list.mat                    label_list: the names of 59 labels
  photos/0001.jpg ... 2098.jpg
  annotations/pixel-level/0001.mat  groundtruth (h, w): the label number of each pixel, 1,004 files
  annotations/image-level/1005.mat  tags: the label numbers of the photograph, 1,094 files
  labels.csv                        made here: path, labels, split
```

An image has the labels of its tags or of its pixels. `null`, `skin` and `hair` are no clothes and
are left out, and so are labels with fewer than 40 images. The release has no split: 600 images
drawn at random with seed 0 are the test split, and the rest is train. `--split-from FILE.csv`
takes the split from another manifest instead (columns path and split; the name of the image file
counts), so that numbers compare with those of somebody else's draw.

Source: Yang, Luo, Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014;
github.com/bearpaw/clothing-co-parsing. The labels kept and the split are ours.
"""

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from _download import Archive, PrepError
from _report import run
from scipy.io import loadmat

from mlvpt.datasets import load_manifest

FOLDER = "clothing-co-parsing"
# GitHub makes the archive when asked, so there is no checksum: the counts must do.
ARCHIVES = {
    FOLDER: (
        Archive("master.zip", "https://github.com/bearpaw/clothing-co-parsing/archive/refs/heads"),
    )
}
KNOWN = {
    "train": {"images": 1498, "image files missing": 0},
    "test": {"images": 600, "image files missing": 0},
}
NO_CLOTHES = {"null", "skin", "hair"}
MIN_IMAGES = 40
N_TEST, SEED = 600, 0


def write_manifest(folder: Path, split_from: Path | None = None) -> Path:
    """Write labels.csv into the data set's folder: columns path, labels, split.

    Args:
        folder: the data set as published.
        split_from: a CSV file with columns path and split, to take the split from.

    Returns:
        The path of labels.csv.

    Raises:
        PrepError: a photograph without annotation, a damaged .mat file, a label number that has no
            name, too few photographs for a test split, a split file that lacks one of them.
    """
    photos = sorted((folder / "photos").glob("*.jpg"))
    if not photos:
        raise PrepError(f"{folder / 'photos'} holds no .jpg: unpack the photographs there.")
    names = [str(name).strip() for name in np.ravel(_load(folder / "label_list.mat", "label_list"))]
    labels = {photo.stem: _labels(folder / "annotations", photo.stem, names) for photo in photos}
    counts = Counter(label for found in labels.values() for label in found)
    kept = {label for label, n in counts.items() if n >= MIN_IMAGES} - NO_CLOTHES
    split = _draw(list(labels)) if split_from is None else _read_split(split_from, list(labels))
    path = folder / "labels.csv"
    part = path.with_name("labels.csv.part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "labels", "split"])
        for stem, found in labels.items():
            writer.writerow([f"photos/{stem}.jpg", ";".join(sorted(found & kept)), split[stem]])
    os.replace(part, path)
    print(f"{path}: {len(labels):,} images, {len(kept)} labels of {len(counts)} in use.")
    return path


def _labels(annotations: Path, stem: str, names: list[str]) -> set[str]:
    """The names of the labels of one photograph, from its tags, its pixels, or both."""
    found: set[str] = set()
    sources = {"image-level": "tags", "pixel-level": "groundtruth"}
    paths = {annotations / kind / f"{stem}.mat": key for kind, key in sources.items()}
    if not any(path.exists() for path in paths):
        raise PrepError(f"{stem}.jpg has no annotation in {annotations}: unpack all of them.")
    for path, key in paths.items():
        if path.exists():
            for value in np.unique(_load(path, key)):
                if isinstance(value, str):  # a name, in copies that have them
                    found.add(value.strip())
                elif 0 <= value < len(names) and value == int(value):
                    found.add(names[int(value)])
                else:
                    raise PrepError(
                        f"{path} has the label number {value}, but label_list.mat names labels 0 "
                        f"to {len(names) - 1}: the two do not belong together."
                    )
    return found


def _load(path: Path, key: str) -> np.ndarray:
    """One variable of a .mat file; a cell array of strings comes as an array of str."""
    if not path.exists():
        raise PrepError(f"{path} is missing: unpack the whole data set.")
    try:
        return loadmat(path, variable_names=[key], squeeze_me=True)[key]
    except KeyError as error:
        raise PrepError(f"{path} has no variable {key}: it is not of this data set.") from error
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise PrepError(f"{path} cannot be read ({error}): unpack it anew.") from error


def _draw(stems: list[str]) -> dict[str, str]:
    """train or test of each photograph, at random with a fixed seed."""
    if len(stems) <= N_TEST:
        raise PrepError(f"{len(stems)} photographs are too few to keep {N_TEST} of them for test.")
    test = np.random.default_rng(SEED).choice(len(stems), N_TEST, replace=False)
    split = dict.fromkeys(stems, "train")
    return split | {stems[i]: "test" for i in test}


def _read_split(path: Path, stems: list[str]) -> dict[str, str]:
    if not path.is_file():
        raise PrepError(f"{path} does not exist: --split-from needs a CSV file.")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"path", "split"} <= set(reader.fieldnames or ()):
            raise PrepError(f"{path} needs the columns path and split.")
        found = {Path(row["path"].replace("\\", "/")).stem: row["split"] for row in reader}
    missing = [stem for stem in stems if not found.get(stem)]
    if missing:
        raise PrepError(
            f"{path} gives no split for {len(missing)} of {len(stems)} photographs, such as "
            f"{missing[0]}.jpg: it must name all of them."
        )
    return {stem: found[stem] for stem in stems}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split-from", type=Path, metavar="FILE.csv", help="take the split from this manifest"
    )


def _prepare(arguments: argparse.Namespace) -> Mapping[str, Mapping[str, int]]:
    """Write the manifest; the counts of somebody else's split are not known."""
    path = write_manifest(arguments.root / FOLDER, arguments.split_from)
    if arguments.split_from is None:
        return KNOWN
    with open(path, encoding="utf-8", newline="") as file:
        splits = sorted({row["split"] for row in csv.DictReader(file)}, reverse=True)
    return {split: {"image files missing": 0} for split in splits}


def main(argv: list[str] | None = None) -> int:
    return run(
        __doc__,
        argv,
        default_root="data",
        archives=ARCHIVES,
        known=KNOWN,
        load=lambda root, split: load_manifest(root / FOLDER / "labels.csv", split=split),
        find={FOLDER: "label_list.mat"},
        add_options=_add_options,
        prepare=_prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
