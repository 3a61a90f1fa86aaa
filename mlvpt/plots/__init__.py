"""Figures of the book and the command line: functions that return a matplotlib Axes or Figure.

Where a function takes `ax`, it draws there, or by default in a new figure of a fitting size.
"""

from mlvpt.plots.attention import attention_grid
from mlvpt.plots.claims import partner_differences
from mlvpt.plots.clusters import embedding_scatter, reordered_affinity
from mlvpt.plots.cost import accuracy_against_cost
from mlvpt.plots.gates import gate_heatmap
from mlvpt.plots.groups import affinity_heatmap, group_graph
from mlvpt.plots.images import image_grid, prediction_grid
from mlvpt.plots.intervals import interval_dots
from mlvpt.plots.labels import class_frequencies, partner_effect
from mlvpt.plots.method import method_map
from mlvpt.plots.predictions import prediction_figure
from mlvpt.plots.prefix import prefix_figure, prompting_cost
from mlvpt.plots.results import result_curves, strength_curves
from mlvpt.plots.speed import heads_memory, speed_figure
from mlvpt.plots.style import CO_COLOR, DC_COLOR, SEQUENTIAL, group_colors, method_color, style

__all__ = [
    "CO_COLOR",
    "DC_COLOR",
    "SEQUENTIAL",
    "accuracy_against_cost",
    "affinity_heatmap",
    "attention_grid",
    "class_frequencies",
    "embedding_scatter",
    "gate_heatmap",
    "group_colors",
    "group_graph",
    "heads_memory",
    "image_grid",
    "interval_dots",
    "method_color",
    "method_map",
    "partner_differences",
    "partner_effect",
    "prediction_figure",
    "prediction_grid",
    "prefix_figure",
    "prompting_cost",
    "reordered_affinity",
    "result_curves",
    "speed_figure",
    "strength_curves",
    "style",
]
