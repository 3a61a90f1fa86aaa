"""Figures of the book and the command line: functions that return a matplotlib Axes or Figure."""

from mlvpt.plots.attention import attention_grid, label_attention_grid
from mlvpt.plots.claims import exclusive_cooccur_dumbbells
from mlvpt.plots.clusters import agreement_curves, embedding_scatter
from mlvpt.plots.gates import gate_heatmap
from mlvpt.plots.groups import affinity_heatmap, cooccurrence_heatmap, group_graph
from mlvpt.plots.images import image_grid, prediction_grid
from mlvpt.plots.labels import class_frequencies, partner_effect
from mlvpt.plots.loss_and_metrics import loss_curves, precision_recall, threshold_curves
from mlvpt.plots.method import method_map
from mlvpt.plots.predictions import prediction_figure
from mlvpt.plots.prefix import prefix_figure, prompting_cost
from mlvpt.plots.results import (
    map_against_parameters,
    paired_differences,
    result_bars,
    result_curves,
    strength_curves,
)
from mlvpt.plots.speed import cost_by_size, heads_memory, speed_figure
from mlvpt.plots.style import (
    CO_COLOR,
    DC_COLOR,
    DIVERGING,
    SEQUENTIAL,
    group_colors,
    method_color,
    style,
)
from mlvpt.plots.training import step_curves, training_curves

__all__ = [
    "CO_COLOR",
    "DC_COLOR",
    "DIVERGING",
    "SEQUENTIAL",
    "affinity_heatmap",
    "agreement_curves",
    "attention_grid",
    "class_frequencies",
    "cooccurrence_heatmap",
    "cost_by_size",
    "embedding_scatter",
    "exclusive_cooccur_dumbbells",
    "gate_heatmap",
    "group_colors",
    "group_graph",
    "heads_memory",
    "image_grid",
    "label_attention_grid",
    "loss_curves",
    "map_against_parameters",
    "method_color",
    "method_map",
    "paired_differences",
    "partner_effect",
    "precision_recall",
    "prediction_figure",
    "prediction_grid",
    "prefix_figure",
    "prompting_cost",
    "result_bars",
    "result_curves",
    "speed_figure",
    "step_curves",
    "strength_curves",
    "style",
    "threshold_curves",
    "training_curves",
]
