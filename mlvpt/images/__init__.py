"""Pictures: `reading` makes upright 8-bit RGB of a file, `transforms` the tensors of a batch."""

# ruff: noqa: F401  the names that other rooms use

from mlvpt.images.reading import (
    NO_PICTURE,
    OTHER_PICTURES,
    ImageError,
    open_rgb,
    read_picture,
    read_rgb,
    state_of_file,
    to_rgb,
)
from mlvpt.images.transforms import (
    ImageSize,
    eval_transform,
    height_width,
    normalize,
    train_transform,
)
