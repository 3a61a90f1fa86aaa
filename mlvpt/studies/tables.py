"""Tables of results: aligned for a terminal, in Markdown for the README.

`python -m mlvpt.studies.tables` (or `make tables`) writes the README's tables anew between their
markers, results from the records and recipes from their files; tests/book/test_readme.py checks
that they are up to date.
"""

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlvpt.results import load
from mlvpt.studies.statistics import summarise
from mlvpt.training.recipes import recipe_names, recipe_path

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


def layout(
    rows: Sequence[Sequence[str]], markdown: bool = False, words: Sequence[int] = (0,)
) -> str:
    """Rows of cells as the text of a table.

    Args:
        rows: the head, then the lines; cells are text.
        markdown: Markdown; else columns two spaces apart, as wide as their widest cell.
        words: columns that are aligned left; the others hold numbers, aligned right.

    Example:
        >>> print(layout([["method", "mAP"], ["ML-VPT", "88.1"], ["VPT", "9.5"]]))
        method   mAP
        ML-VPT  88.1
        VPT      9.5
    """
    if markdown:
        head, *lines = rows
        rule = ["---" if i in words else "---:" for i in range(len(head))]
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *lines))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = (
        [f"{cell:{'<' if i in words else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in cells)


def results_table(lines: Sequence[dict[str, Any]]) -> str:
    """Lines of `summarise` as an aligned table in percent.

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
    head = ["variant", "seeds", "trained", *columns, *(f"Δ {name} (p)" for name in compared)]
    table = [[*head, "time"]]
    for line in lines:
        cells = [line["variant"], str(line["n"]), f"{line['trained_parameters']:,.0f}"]
        cells += [_percent(line, key) for key in columns.values()]
        cells += [_difference(line.get(key)) for key in compared.values()]
        table.append([*cells, f"{line['seconds']:.0f} s"])
    return layout(table)


def study_table(rows: Sequence[dict[str, Any]], base: str | None = None) -> str:
    """The table of a study in percent, and below it the runs that failed, with their reasons.

    Args:
        rows: of `run_grid`.
        base: the variant that the others are compared with, if a run of it succeeded.
    """
    done = [row for row in rows if "error" not in row]
    if base not in {row["variant"] for row in done}:
        base = None
    text = results_table(summarise(done, base)) if done else "no run succeeded"
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
        cells += [_percent(line, key) for key in measures.values()]
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


def recipes_table() -> str:
    """Every recipe with its command: Markdown. Both stand in the comments at its head."""
    table = [["data", "backbone", "px", "command"]]
    for name in recipe_names():
        text = recipe_path(name).read_text(encoding="utf-8")
        first = text.splitlines()[0]
        data, backbone, size = first.removeprefix("# ").rstrip(".").split("; ")
        data, size = data.split(", ")[0], size.removesuffix(" px")
        run = re.search(r"^# Run:((?:.*\\\n)*.*)", text, flags=re.MULTILINE)[1]
        command = " ".join(re.sub(r"\\\n#", " ", run).split())  # continued lines as one
        table.append([data, backbone, size, f"`{command}`"])
    return layout(table, markdown=True, words=(0, 1, 3))


def with_tables(readme: str) -> str:
    """The README's text with today's tables between its markers."""
    for name, table in {"results": methods_table, "recipes": recipes_table}.items():
        start, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, _, rest = readme.partition(start)
        tail = rest.partition(end)[2]
        readme = f"{head}{start}\n{table()}\n{end}{tail}"
    return readme


def _percent(line: dict[str, Any], measure: str) -> str:
    """Mean ± standard deviation of a measure in percent; one seed has no deviation."""
    mean, std = (100 * line.get(key, math.nan) for key in (measure, f"{measure}_std"))
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def _difference(found: dict[str, Any] | None) -> str:
    """A result of `paired_test` as "+1.2 (0.03)"; one pair has no p value, the base nothing."""
    if found is None:
        return ""
    text = f"{100 * found['difference']:+.1f}"
    return text if math.isnan(found["t_p"]) else f"{text} ({found['t_p']:.2f})"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
