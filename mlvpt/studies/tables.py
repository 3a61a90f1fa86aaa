"""Tables of results: aligned for a terminal, in Markdown for pages, in pandas for a notebook."""

import math
from collections.abc import Sequence
from typing import Any

import pandas

from mlvpt.results import load
from mlvpt.studies.statistics import summarise
from mlvpt.training.console import layout

TITLES = {
    "mlvpt": "ML-VPT",
    "linear_probe": "linear probe",
    "full_finetuning": "full fine-tuning",
    "vpt_shallow": "VPT-shallow",
    "vpt_deep": "VPT-deep",
    "gate_vpt": "GateVPT",
    "e2vpt": "E²VPT",
    "e2vpt_pruned": "E²VPT, pruned",
    "bitfit": "BitFit",
    "lora": "LoRA",
    "query_head": "query head",
}


def results_frame(lines: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """Lines of `summarise` as a table of text, in percent, with the variants as its index.

    Differences from the base (Δ) are followed by the p value of the paired t-test, which one seed
    does not have.
    """
    measures = {"val": "val_mAP", "test": "test_mAP", "shifted": "test_shifted_mAP", "drop": "drop"}
    columns = {n: key for n, key in measures.items() if any(key in line for line in lines)}
    compared = {
        name: f"{key}_vs_base"
        for name, key in columns.items()
        if name != "val" and any(f"{key}_vs_base" in line for line in lines)
    }
    rows = {}
    for line in lines:
        cells = {"seeds": str(line["n"]), "trained": f"{line['trained_parameters']:,.0f}"}
        cells |= {name: percent(line, key) for name, key in columns.items()}
        cells |= {f"Δ {name} (p)": _difference(line.get(key)) for name, key in compared.items()}
        rows[line["variant"]] = {**cells, "time": f"{line['seconds']:.0f} s"}
    return pandas.DataFrame.from_dict(rows, orient="index")


def study_table(rows: Sequence[dict[str, Any]], base: str | None = None) -> str:
    """The table of a study in percent, and below it the runs that failed, with their reasons.

    Args:
        rows: of `run_grid`.
        base: the variant that the others are compared with, if a run of it succeeded.
    """
    done = [row for row in rows if "error" not in row]
    if base not in {row["variant"] for row in done}:
        base = None
    text = results_frame(summarise(done, base)).to_string() if done else "no run succeeded"
    failed = [
        f"failed: {row['variant']}, seed {row['seed']}: {row['error']}"
        for row in rows
        if "error" in row
    ]
    return "\n".join([text, *failed])


def methods_table() -> str:
    """Methods by mAP on test_shifted, best first: Markdown, mAP in percent."""
    rows = load("baselines")
    lines = sorted(summarise(rows), key=lambda line: -line["test_shifted_mAP"])
    measures = {"mAP test": "test_mAP", "mAP test_shifted": "test_shifted_mAP", "drop": "drop"}
    table = [["method", "trained parameters", *measures, "seconds per run"]]
    for line in lines:
        cells = [TITLES.get(line["variant"], line["variant"]), f"{line['trained_parameters']:,.0f}"]
        cells += [percent(line, key) for key in measures.values()]
        table.append([*cells, f"{line['seconds']:.0f}"])
    seeds = "–".join(map(str, sorted({line["n"] for line in lines})))
    device = rows[0]["device"].replace(", 1 threads", ", one thread")
    run = {row["variant"] for row in rows}
    missing = ", ".join(title for variant, title in TITLES.items() if variant not in run)
    return (
        f"{layout(table, markdown=True)}\n\n"
        f"Mean ± standard deviation over {seeds} seeds, {device} "
        "per run; every method at the learning rate that was best on val in the same sweep. "
        "From `results/baselines.jsonl`, made by `make ablations`."
        + (f" Not run yet: {missing}." if missing else "")
    )


def percent(line: dict[str, Any], measure: str) -> str:
    """Mean ± standard deviation of a measure in percent; one seed has no deviation."""
    mean, std = (100 * line.get(key, math.nan) for key in (measure, f"{measure}_std"))
    if math.isnan(mean):
        return "not run"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def signed(value: float) -> str:
    """A difference of fractions in points; nothing is +0.0, never -0.0.

    Example:
        >>> signed(0.0123), signed(-0.0001)
        ('+1.2', '+0.0')
    """
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _difference(found: dict[str, Any] | None) -> str:
    """A result of `paired_test` as "+1.2 (0.03)"; one pair has no p value, the base nothing."""
    if found is None:
        return ""
    text = f"{100 * found['difference']:+.1f}"
    return text if math.isnan(found["t_p"]) else f"{text} ({found['t_p']:.2f})"
