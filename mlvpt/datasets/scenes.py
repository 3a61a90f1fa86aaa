"""DigitScenes: handwritten digits composed into small scenes with a planted label structure.

The digits are scikit-learn's `load_digits` (1,797 images of 8 x 8, part of the library), so nothing
is downloaded. A scene is 48 x 48 RGB and holds 1 to 5 different digits among clutter, noise and
overlap. What makes it multi-label is the structure of the label sets:

- contexts co-occur: a scene draws one of {0,1,2}, {3,4}, {5,7,8}, {6,9}; each of its digits appears
  with p = 0.75, any other digit with p = 0.06;
- look-alikes (1,7), (3,8), (4,9), (5,6) exclude each other.

The split `test_shifted` keeps the number of labels per scene but draws which ones at random: a
model that leans on co-occurrence loses more there.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.errors import InputError

CONTEXTS = ((0, 1, 2), (3, 4), (5, 7, 8), (6, 9))
LOOK_ALIKES = ((1, 7), (3, 8), (4, 9), (5, 6))
CLASS_NAMES = tuple(str(digit) for digit in range(10))
SPLIT_SIZES = {"train": 2000, "val": 500, "test": 1000, "test_shifted": 1000}
SIZE, PATCH, MAX_DIGITS = 48, 8, 5  # pixels, pixels, digits per scene
BACKGROUND = 10  # patch label of a patch without ink
BLOCK = 500  # scenes drawn from one random stream; fewer images are a prefix of more


class SceneArrays(NamedTuple):
    """The arrays of a split: pixels, labels, and the boxes of the digits.

    images: (N, 48, 48, 3) uint8. targets: (N, 10) int8 in {1, 0}. boxes: (N, 5, 5) int16, rows
    (class, x0, y0, x1, y1) in pixels with exclusive ends, class -1 where a row is unused. patches:
    (N, 36) int8, the digit with the most visible ink in each 8 x 8 patch, or 10 for background.
    """

    images: np.ndarray
    targets: np.ndarray
    boxes: np.ndarray
    patches: np.ndarray


class DigitPool(NamedTuple):
    """Ink in [0, 1] to draw from: digits (M, 40, 40), labels (M,), clutter (M, 24, 24)."""

    digits: torch.Tensor
    labels: np.ndarray
    clutter: torch.Tensor


class DigitScenes(MultiLabelDataset):
    """Scenes with the boxes of their digits; see `load_scenes`."""

    def __init__(self, *, boxes: np.ndarray, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._boxes = boxes  # (N, 5, 5)

    def boxes(self, index: int) -> list[tuple[int, int, int, int, int]]:
        """(class, x0, y0, x1, y1) of each digit in the scene, pixels, exclusive ends."""
        rows = self._boxes[int(self._rows[index])]
        return [tuple(int(value) for value in row) for row in rows if row[0] >= 0]


def draw_label_sets(rng: np.random.Generator, n: int, strength: float = 1.0) -> np.ndarray:
    """Label sets of `n` scenes.

    Each follows the structure with probability `strength`; otherwise its labels are replaced by
    as many, drawn without structure. So the number of labels per scene does not depend on
    `strength`, and every co-occurrence in excess of chance is linear in it.

    Args:
        rng: source of randomness.
        n: number of scenes.
        strength: in [0, 1].

    Returns:
        (n, 10) bool with 1 to 5 labels per row.
    """
    context_of = np.zeros(10, np.int64)
    for context, members in enumerate(CONTEXTS):
        context_of[list(members)] = context
    kept, total = [], 0
    while total < n:
        context = rng.integers(len(CONTEXTS), size=n)
        inside = context_of == context[:, None]  # (n, 10)
        labels = rng.random((n, 10)) < np.where(inside, 0.75, 0.06)
        for a, b in LOOK_ALIKES:
            # Of two look-alikes the one outside the context goes; outside both, either.
            drop_a = np.where(inside[:, a] == inside[:, b], rng.random(n) < 0.5, inside[:, b])
            both = labels[:, a] & labels[:, b]
            labels[both & drop_a, a] = False
            labels[both & ~drop_a, b] = False
        count = labels.sum(1)
        kept.append(labels[(count >= 1) & (count <= MAX_DIGITS)])
        total += len(kept[-1])
    labels = np.concatenate(kept)[:n]
    # The k smallest of 10 random numbers are a random set of k labels.
    ranks = rng.random((n, 10)).argsort(1).argsort(1)
    unstructured = ranks < labels.sum(1, keepdims=True)
    return np.where(rng.random((n, 1)) < strength, labels, unstructured)


@lru_cache(maxsize=2)
def digit_pool(name: str) -> DigitPool:
    """The digits of the training pool ("train") or of the test pool ("test").

    Every third image of each class is for testing: the split is fixed, because the packaged
    backbone has seen the training pool.
    """
    digits = load_digits()
    position = np.zeros(len(digits.target), np.int64)  # rank of an image within its class
    for digit in range(10):
        members = np.flatnonzero(digits.target == digit)
        position[members] = np.arange(len(members))
    chosen = (position % 3 == 2) == (name == "test")
    ink = torch.from_numpy(digits.images[chosen].astype(np.float32)) / 16.0  # (M, 8, 8)
    # Clutter is a 4 x 4 piece of a digit: strokes like a digit's, but no digit.
    corners = np.random.default_rng(0).integers(0, 5, (len(ink), 2))
    pieces = torch.stack(
        [image[y : y + 4, x : x + 4] for image, (y, x) in zip(ink, corners, strict=True)]
    )
    return DigitPool(_enlarge(ink), digits.target[chosen], _enlarge(pieces))


def _enlarge(ink: torch.Tensor) -> torch.Tensor:
    """(M, h, h) to (M, 4(h+2), 4(h+2)): an empty border of one pixel, then smooth enlargement."""
    padded = F.pad(ink[:, None], (1, 1, 1, 1))
    return F.interpolate(padded, scale_factor=4, mode="bicubic")[:, 0].clamp_(0, 1)


def _stamp(
    ink: torch.Tensor, centre: np.ndarray, side: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    """Turn, scale and place each (h, h) piece of ink on an empty scene.

    Args:
        ink: (m, h, h).
        centre: (m, 2) x and y in pixels.
        side: (m, 2) width and height that the piece gets, in pixels.
        angle: (m,) radians.

    Returns:
        (m, 48, 48) float32 in [0, 1].
    """
    half = SIZE / 2
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)  # (m, 2, 2)
    # Normalised scene coordinates in [-1, 1] to those of the piece, as grid_sample wants them.
    linear = turn * half / (side[:, :, None] / 2)
    offset = (turn / (side[:, :, None] / 2)) @ (half - centre)[:, :, None]
    theta = torch.from_numpy(np.concatenate([linear, offset], 2).astype(np.float32))
    grid = F.affine_grid(theta, (len(ink), 1, SIZE, SIZE), align_corners=False)
    return F.grid_sample(ink[:, None], grid, align_corners=False)[:, 0].numpy()


def compose_scenes(rng: np.random.Generator, labels: np.ndarray, pool: DigitPool) -> SceneArrays:
    """Draw scenes that show the given digits.

    Args:
        rng: source of randomness.
        labels: (n, 10) bool, 1 to 5 per row.
        pool: where the digits come from.

    Returns:
        SceneArrays of n scenes.
    """
    n = len(labels)
    rows = np.arange(n)
    # Light ink on a darker ground: one colour, and uneven light of 4 x 4 random spots.
    ground = rng.uniform(0.1, 0.4, n)
    ink_light = ground + rng.uniform(0.25, 0.5, n)
    spots = torch.from_numpy(rng.normal(0, 0.06, (n, 3, 4, 4)).astype(np.float32))
    canvas = F.interpolate(spots, size=(SIZE, SIZE), mode="bicubic").numpy()  # (n, 3, 48, 48)
    canvas += (ground[:, None] + rng.uniform(-0.1, 0.1, (n, 3))).astype(np.float32)[..., None, None]

    def paint(scenes: np.ndarray, mask: np.ndarray) -> None:
        """Lay ink (m, 48, 48) over the canvas of `scenes`, each in its own shade."""
        shade = ink_light[scenes, None] + rng.uniform(-0.12, 0.12, (len(scenes), 3))
        alpha = mask[:, None] * rng.uniform(0.7, 1.0, (len(scenes), 1, 1, 1)).astype(np.float32)
        canvas[scenes] += alpha * (shade.astype(np.float32)[..., None, None] - canvas[scenes])

    n_clutter = rng.integers(1, 6, n)
    for slot in range(5):
        scenes = rows[n_clutter > slot]
        piece = rng.integers(len(pool.clutter), size=len(scenes))
        side = rng.uniform(10, 15, (len(scenes), 1)) * np.ones(2)
        centre = rng.uniform(2, SIZE - 2, (len(scenes), 2))
        angle = rng.uniform(-np.pi, np.pi, len(scenes))
        paint(scenes, _stamp(pool.clutter[piece], centre, side, angle))

    boxes = np.full((n, MAX_DIGITS, 5), -1, np.int16)
    ink = np.zeros((n, MAX_DIGITS, SIZE // PATCH, SIZE // PATCH), np.float32)  # visible, by patch
    centres = np.full((n, MAX_DIGITS, 2), 1e3)
    order = np.where(labels, rng.random((n, 10)), 2.0).argsort(1)  # the scene's digits, shuffled
    count = labels.sum(1)
    for slot in range(MAX_DIGITS):
        scenes = rows[count > slot]
        m = len(scenes)
        if m == 0:
            break
        digit = order[scenes, slot]
        image = _pick(rng, pool.labels, digit)
        height = rng.uniform(15, 24, m)  # of the 8 x 8 digit with its border, so 10/8 of the digit
        side = np.stack([height * rng.uniform(0.8, 1.05, m), height], 1)
        # Of two places the one farther from the digits already there: overlap, seldom burial.
        places = rng.uniform(0, 1, (2, m, 2)) * (SIZE + 4 - side) + side / 2 - 2
        gap = np.linalg.norm(places[:, :, None] - centres[scenes], axis=-1).min(-1)  # (2, m)
        centre = places[gap.argmax(0), np.arange(m)]
        centres[scenes, slot] = centre
        mask = _stamp(pool.digits[image], centre, side, rng.uniform(-0.25, 0.25, m))
        paint(scenes, mask)
        boxes[scenes, slot] = np.concatenate([digit[:, None], _tight_boxes(mask)], 1)
        by_patch = mask.reshape(m, SIZE // PATCH, PATCH, SIZE // PATCH, PATCH).mean((2, 4))
        ink[scenes, :slot] *= 1 - by_patch[:, None]  # what lies below is covered in part
        ink[scenes, slot] = by_patch

    sigma = rng.uniform(0.02, 0.1, (n, 1, 1, 1)).astype(np.float32)
    canvas += rng.standard_normal(canvas.shape, np.float32) * sigma
    images = (canvas.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    best = ink.argmax(1)  # (n, 6, 6)
    patches = np.where(ink.max(1) > 0.1, order[rows[:, None, None], best], BACKGROUND)
    return SceneArrays(
        np.ascontiguousarray(images),
        labels.astype(np.int8),
        boxes,
        patches.reshape(n, -1).astype(np.int8),
    )


def _pick(rng: np.random.Generator, labels: np.ndarray, digit: np.ndarray) -> np.ndarray:
    """For each entry of `digit` the index of a random image of that class."""
    by_class = np.argsort(labels, kind="stable")
    size = np.bincount(labels, minlength=10)
    start = np.cumsum(size) - size
    return by_class[start[digit] + (rng.random(len(digit)) * size[digit]).astype(np.int64)]


def _tight_boxes(mask: np.ndarray) -> np.ndarray:
    """(m, 48, 48) ink to (m, 4) x0, y0, x1, y1 around what is darker than 0.3; ends exclusive."""
    boxes = []
    for axis in (1, 2):  # columns give x, rows give y
        inked = (mask > 0.3).any(axis)
        boxes.append((inked.argmax(1), SIZE - inked[:, ::-1].argmax(1)))
    (x0, x1), (y0, y1) = boxes
    return np.stack([x0, y0, x1, y1], 1)


@lru_cache(maxsize=16)
def scene_arrays(split: str, n_images: int, seed: int, strength: float) -> SceneArrays:
    """The arrays of a split, made once per process; callers share them, so they are read-only."""
    pool = digit_pool("test" if split.startswith("test") else "train")
    parts = []
    for block in range(-(-n_images // BLOCK)):
        stream = np.random.SeedSequence((seed, list(SPLIT_SIZES).index(split), block))
        rng = np.random.default_rng(stream)
        labels = draw_label_sets(rng, BLOCK, 0.0 if split == "test_shifted" else strength)
        parts.append(compose_scenes(rng, labels, pool))
    arrays = SceneArrays(*(np.concatenate(field)[:n_images] for field in zip(*parts, strict=True)))
    for array in arrays:
        array.flags.writeable = False
    return arrays


def load_scenes(
    split: str = "train", n_images: int | None = None, seed: int = 0, strength: float = 1.0
) -> DigitScenes:
    """DigitScenes, generated on the spot.

    Args:
        split: "train" or "val" (digits of the training pool), "test" or "test_shifted" (test pool).
        n_images: default 2,000 / 500 / 1,000 / 1,000. Fewer images are the first of more.
        seed: 0 or more. The same seed gives the same scenes; the digit pools do not depend on it.
        strength: in [0, 1], the share of scenes whose labels follow the planted structure. 1 is
            the data set as described, 0 gives every split the label sets of test_shifted.

    Returns:
        DigitScenes; `boxes(i)` lists the digits of a scene.

    Raises:
        InputError: unknown split, no images, or a strength outside [0, 1].

    Example:
        >>> load_scenes("val", n_images=100).targets.shape
        (100, 10)
    """
    if split not in SPLIT_SIZES:
        raise InputError(f"scenes have no split {split!r}: use one of {', '.join(SPLIT_SIZES)}.")
    n_images = SPLIT_SIZES[split] if n_images is None else n_images
    if n_images < 1:
        raise InputError(f"n_images is {n_images}: ask for at least one scene.")
    if seed < 0:
        raise InputError(f"seed is {seed}: use 0 or more.")
    if not 0 <= strength <= 1:
        raise InputError(f"strength is {strength}: it is a share, use a value from 0 to 1.")
    arrays = scene_arrays(split, int(n_images), int(seed), float(strength))
    return DigitScenes(
        targets=arrays.targets,
        class_names=CLASS_NAMES,
        images=arrays.images,
        image_ids=[f"{split}_{index:06d}" for index in range(len(arrays.images))],
        boxes=arrays.boxes,
        name=f"scenes {split}",
    )
