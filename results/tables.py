"""The README's tables, generated: `python -m mlvpt.results.tables` (or `make tables`).

The results come from the records, the recipes from their files. What stands between the markers
in README.md is replaced; tests/test_readme.py checks that it is what would be generated today.
"""

import re
import sys
from pathlib import Path

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


def results_table() -> str:
    """Methods by mAP on test_shifted, best first: Markdown, mAP in percent."""
    rows = load("baselines")
    lines = summarise(rows)
    lines.sort(key=lambda line: -line["test_shifted_mAP"])
    seeds = {line["n"] for line in lines}
    table = [
        "| method | trained parameters | mAP test | mAP test_shifted | drop | seconds per run |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in lines:
        cells = [
            TITLES.get(line["variant"], line["variant"]),
            f"{line['trained_parameters']:,.0f}",
            *(_percent(line, measure) for measure in ("test_mAP", "test_shifted_mAP", "drop")),
            f"{line['seconds']:.0f}",
        ]
        table.append(f"| {' | '.join(cells)} |")
    device = rows[0]["device"].replace(", 1 threads", ", one thread")
    missing = [
        title for variant, title in TITLES.items() if variant not in {r["variant"] for r in rows}
    ]
    return "\n".join(
        [
            *table,
            "",
            f"Mean ± standard deviation over {'–'.join(map(str, sorted(seeds)))} seeds, {device} "
            "per run; every method at the learning rate that was best on val in the same sweep. "
            "From `results/baselines.jsonl`, made by `make ablations`."
            + (f" Not run yet: {', '.join(missing)}." if missing else ""),
        ]
    )


def recipes_table() -> str:
    """Every recipe with its command: Markdown. Both stand in the comments at its head."""
    table = [
        "| data | backbone | px | command |",
        "| --- | --- | ---: | --- |",
    ]
    for name in recipe_names():
        text = recipe_path(name).read_text(encoding="utf-8")
        first = text.splitlines()[0]
        data, backbone, size = first.removeprefix("# ").rstrip(".").split("; ")
        data, size = data.split(", ")[0], size.removesuffix(" px")
        run = re.search(r"^# Run:((?:.*\\\n)*.*)", text, flags=re.MULTILINE)[1]
        command = " ".join(re.sub(r"\\\n#", " ", run).split())  # continued lines as one
        table.append(f"| {data} | {backbone} | {size} | `{command}` |")
    return "\n".join(table)


def with_tables(readme: str) -> str:
    """The README's text with today's tables between its markers."""
    for name, table in {"results": results_table, "recipes": recipes_table}.items():
        start, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, _, rest = readme.partition(start)
        tail = rest.partition(end)[2]
        readme = f"{head}{start}\n{table()}\n{end}{tail}"
    return readme


def _percent(line: dict, measure: str) -> str:
    return f"{100 * line[measure]:.1f} ± {100 * line[f'{measure}_std']:.1f}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
