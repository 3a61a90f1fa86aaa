"""Training, validation and test images of a named data set.

The validation images, on which the best epoch is chosen, are held out of the training images;
test images are never used for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.coco import load_coco, load_coco_json
from mlvpt.datasets.huggingface import load_huggingface
from mlvpt.datasets.manifest import load_manifest_splits
from mlvpt.datasets.nuswide import load_nuswide
from mlvpt.datasets.scenes import load_scenes
from mlvpt.datasets.visual_genome import load_vg256, load_visual_genome
from mlvpt.datasets.voc import load_voc
from mlvpt.errors import InputError


def stratified_split(
    targets: Any, val_fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A split of the images in two in which every label has its share in both halves.

    Iterative stratification: take the label with the fewest images left, and give each of its
    images to the half that still wants most images of that label (ties: the half that wants
    most images, then chance); repeat. Rare labels are placed first, while there is room to.
    A label with one image goes to training (for `val_fraction` below one half) if it can. Images
    without a label are placed last. At the end a few images, of the most frequent labels, change
    sides to make the sizes exact.

    Args:
        targets: (N, K) in {1, 0, -1}; -1 counts as 0.
        val_fraction: in (0, 1), the share of the second half.
        seed: decides the order of images and ties. The same seed gives the same split.

    Returns:
        (train, val): sorted int64 indices; together each of 0..N-1 once.

    Raises:
        InputError: `val_fraction` outside (0, 1), or a half that would have no image.

    Source: Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011, algorithm 1. Differs in the order of
    images within a label, random here, and in the exact sizes.

    Example:
        >>> train, val = stratified_split(np.eye(2).repeat(10, axis=0), val_fraction=0.2)
        >>> (np.bincount(val // 10)).tolist()
        [2, 2]
    """
    positive = np.asarray(targets) == 1  # (N, K)
    n_images, n_classes = positive.shape
    n_val = round(n_images * val_fraction) if 0 < val_fraction < 1 else 0
    if not 0 < n_val < n_images:
        raise InputError(
            f"val_fraction={val_fraction} of {n_images} images leaves one half empty: use a "
            "fraction between 0 and 1, and enough images."
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_images)
    labels_of = [np.flatnonzero(row).tolist() for row in positive]
    images_of: list[list[int]] = [[] for _ in range(n_classes)]
    for image in order.tolist():
        for k in labels_of[image]:
            images_of[k].append(image)
    left = positive.sum(axis=0)  # images of each label that are not placed yet
    shares = (1 - val_fraction, val_fraction)
    wanted = [(share * left).tolist() for share in shares]  # per half: images wanted of each label
    room = [share * n_images for share in shares]  # per half: images wanted in all
    half = np.full(n_images, -1)

    def place(image: int, label: int | None) -> None:
        lead = wanted[1][label] - wanted[0][label] if label is not None else 0.0
        lead = lead if abs(lead) > 1e-9 else room[1] - room[0]
        side = int(lead > 0) if abs(lead) > 1e-9 else int(rng.integers(2))
        half[image] = side
        room[side] -= 1
        for k in labels_of[image]:
            wanted[side][k] -= 1
            left[k] -= 1

    while left.any():
        rarest = int(np.where(left > 0, left, n_images + 1).argmin())
        for image in images_of[rarest]:
            if half[image] < 0:
                place(image, rarest)
    for image in order.tolist():
        if half[image] < 0:
            place(image, None)
    surplus = int((half == 1).sum()) - n_val
    if surplus:
        count = positive.sum(axis=0)
        rarest_of = np.where(positive, count, n_images + 1).min(axis=1)  # (N,) its rarest label
        movable = order[half[order] == int(surplus > 0)]
        moved = movable[np.argsort(-rarest_of[movable], kind="stable")][: abs(surplus)]
        half[moved] = int(surplus < 0)
    return np.flatnonzero(half == 0), np.flatnonzero(half == 1)


@dataclass(frozen=True)
class Splits:
    """The parts of a data set: what a run trains on, selects on and reports on.

    Attributes:
        train: the training images without the held-out ones.
        val: held out of the training images, to choose the best epoch on.
        tests: {name: images to report on, once, at the end}: "test" where the data set has one,
            of scenes "test_shifted" too.
    """

    train: MultiLabelDataset
    val: MultiLabelDataset
    tests: dict[str, MultiLabelDataset]

    @property
    def parts(self) -> dict[str, MultiLabelDataset]:
        """Images by the name of their split, "train", "val" and those of the tests."""
        return {"train": self.train, "val": self.val, **self.tests}


def load_splits(
    name: str,
    root: str | Path | None = None,
    *,
    image_root: str | Path | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    difficult: str = "ignore",
    n_images: int | None = None,
    strength: float = 1.0,
) -> Splits:
    """The splits of a named data set, validation images held out of the training images.

    | name | training images | test images |
    | --- | --- | --- |
    | scenes | train, val as generated | test, test_shifted |
    | voc2007 | trainval | test |
    | voc2012 | train | val (the labels of test are not public) |
    | coco2014, coco2017 | train | val |
    | nuswide, vg256, visual_genome | train | test |
    | manifest | split column: train (val, if there is one, is used as it is), else all | test |
    | coco_json | all, those without a label too | none |
    | huggingface | split "train" ("validation" likewise) | "test" |

    Args:
        name: one of the above.
        root: the data set's folder (see its loader), the file of a manifest or COCO JSON, or for
            huggingface the folder of a saved dataset or its name on the Hub.
        image_root: of a manifest or COCO JSON; default: the file's own folder.
        val_fraction: share of the training images to hold out; not used where the data set
            brings its own validation split (scenes, manifest, huggingface).
        seed: of the held-out split. The scenes do not depend on it.
        difficult: of VOC, "ignore" or "negative".
        n_images: of scenes, the number of training images.
        strength: of scenes, of their planted structure.

    Raises:
        InputError: an unknown name, a missing root, or what the loader raises.
    """
    if name == "scenes":
        train = load_scenes("train", n_images=n_images, strength=strength)
        val, test = (load_scenes(split, strength=strength) for split in ("val", "test"))
        return Splits(train, val, {"test": test, "test_shifted": load_scenes("test_shifted")})
    if root is None:
        raise InputError(f"the data set {name} needs a root: the folder (or CSV file) it is in.")
    val = None
    if name in ("voc2007", "voc2012"):
        year = int(name.removeprefix("voc"))
        used, held = ("trainval", "test") if year == 2007 else ("train", "val")
        train, test = (load_voc(root, split, year, difficult) for split in (used, held))
    elif name in ("coco2014", "coco2017"):
        year = int(name.removeprefix("coco"))
        train, test = (load_coco(root, split, year) for split in ("train", "val"))
    elif name == "nuswide":
        train, test = (load_nuswide(root, split) for split in ("train", "test"))
    elif name == "vg256":
        train, test = (load_vg256(root, split) for split in ("train", "test"))
    elif name == "visual_genome":
        train, test = (load_visual_genome(root, split) for split in ("train", "test"))
    elif name == "manifest":
        train, val, test = _manifest_parts(root, image_root)
    elif name == "coco_json":
        train, test = load_coco_json(root, image_root or Path(root).parent, empty="keep"), None
    elif name == "huggingface":
        train, val, test = _huggingface_parts(str(root))
    else:
        raise InputError(f"there is no data set called {name!r}.")
    if val is None:
        kept, held_out = stratified_split(train.targets, val_fraction, seed)
        train, val = train.subset(kept), train.subset(held_out)
    return Splits(train, val, {} if test is None else {"test": test})


def _manifest_parts(
    csv_path: str | Path, image_root: str | Path | None
) -> tuple[MultiLabelDataset, MultiLabelDataset | None, MultiLabelDataset | None]:
    """train, val, test of a manifest; a part that its column `split` lacks is None."""
    parts = load_manifest_splits(csv_path, image_root)
    unknown = sorted(parts.keys() - {"train", "val", "test"})
    if unknown:
        raise InputError(
            f"{csv_path}: the column split holds {', '.join(map(repr, unknown))}: give each row "
            "train, val or test, or leave the column out."
        )
    if "train" not in parts:
        raise InputError(
            f"{csv_path} has no rows of split 'train'; its splits are: {', '.join(parts)}."
        )
    return parts["train"], parts.get("val"), parts.get("test")


def _huggingface_parts(
    root: str,
) -> tuple[MultiLabelDataset, MultiLabelDataset | None, MultiLabelDataset | None]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "the data set huggingface needs the library: pip install datasets."
        ) from error
    source = datasets.load_from_disk(root) if Path(root).is_dir() else datasets.load_dataset(root)
    if not hasattr(source, "keys"):
        return load_huggingface(source), None, None
    if "train" not in source:
        raise InputError(f"{root} has no split called train; it has: {', '.join(source)}.")
    train = load_huggingface(source["train"])
    val, test = (
        load_huggingface(source[split], class_names=train.class_names) if split in source else None
        for split in ("validation", "test")
    )
    return train, val, test
