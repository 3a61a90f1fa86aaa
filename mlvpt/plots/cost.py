"""What an image costs as it grows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mlvpt.plots.prefix import prompting_cost
from mlvpt.plots.style import BLUE, ORANGE, style


def cost_by_size(
    sides: Sequence[int] = range(112, 673, 112),
    patch: int = 16,
    n_prompts: int = 30,
    width: int = 768,
    n_blocks: int = 12,
    marked: Sequence[int] = (224, 448),
) -> Axes:
    """Multiplications of a forward pass per image against the side of the image.

    Args:
        sides: of square images, in pixels.
        patch: side of a patch in pixels.
        n_prompts, width, n_blocks: see `prompting_cost`; by default ML-VPT on ViT-B/16.
        marked: sides whose cost is written beside the curve; the first is the reference.
    """

    def billions(side: int) -> float:
        n_tokens = (side // patch) ** 2 + 1
        cost = prompting_cost(1, n_tokens, n_prompts, width, n_blocks)["prefix"]
        return sum(cost.values()) / 1e9

    with style():
        ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")[1]
        ax.plot(sides, [billions(side) for side in sides], marker="o", color=BLUE, label="ML-VPT")
        first = marked[0]
        linear = [billions(first) * (side / first) ** 2 for side in sides]
        ax.plot(
            sides,
            linear,
            color=ORANGE,
            linestyle="--",
            label=f"in proportion to the area, from {first} px",
        )
        for side in marked:
            ax.annotate(
                f"{billions(side):.0f} at {side} px",
                (side, billions(side)),
                xytext=(-8, 8),
                textcoords="offset points",
                ha="right",
            )
        ax.set_xlabel("side of the image (pixels)")
        ax.set_ylabel("multiplications per image (billion)")
        ax.set_xticks(list(sides))
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(loc="upper left")
    return ax
