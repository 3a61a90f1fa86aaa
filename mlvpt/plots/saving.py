"""Figures as PNG files that say who wrote them, so that only those are ever replaced."""

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from mlvpt.files import atomic_path

MARK = "mlvpt"  # in the PNG's own field for the software that made it


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as PNG, whole or not at all, with the mark of this package."""
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": MARK}
        )


def is_own_figure(path: str | Path) -> bool:
    """Whether `save_figure` wrote this file."""
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == MARK
    except Exception:  # no picture, or a damaged one: not ours to replace
        return False
