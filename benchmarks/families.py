"""Which of timm's models can be prompted, and in which form: results/families.json and a table.

    python benchmarks/families.py    # a minute of processor time, no downloads, no weights

Every model of timm is asked on the meta device, shapes only. In "prefix" the prompts are a prefix
of keys and values (exact and cheaper), in "plain" they stand among the tokens of timm's own blocks,
slower with the same result; "refused" has no sequence of tokens that they could join.
The table goes to book/backbones.md, between its marks.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from tqdm.auto import tqdm

from mlvpt.backbones import check_promptable
from mlvpt.errors import InputError
from mlvpt.prefix import has_prefix_form
from mlvpt.training.record import write_record

ROOT = Path(__file__).parents[1]
START, END = "<!-- families: begin -->", "<!-- families: end -->"
FORMS = ("prefix", "plain", "refused")


def form_of(name: str) -> tuple[str, str]:
    """The class that timm builds for a name, and the form in which it takes prompts."""
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False, num_classes=0)
    try:
        check_promptable(model)
    except InputError:
        return type(model).__name__, "refused"
    form = "prefix" if all(map(has_prefix_form, model.blocks)) else "plain"
    return type(model).__name__, form


def families(modules: Sequence[str]) -> list[dict[str, Any]]:
    """A row per file of timm: its classes, and its models by form.

    Where the first and the last model of a file are refused, all are: one class per file.
    """
    rows = []
    for module in tqdm(modules, desc="files of timm"):
        names = timm.list_models(module=module)
        if not names:
            continue
        ends = {name: form_of(name) for name in {names[0], names[-1]}}
        refused = all(form == "refused" for _, form in ends.values())
        found = ends if refused else {name: form_of(name) for name in names}
        by_form: dict[str, Any] = {form: [] for form in FORMS}
        for name in names:
            by_form["refused" if refused else found[name][1]].append(name)
        classes = sorted({class_name for class_name, _ in found.values()})
        rows.append({"file": module, "classes": classes, **by_form})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: models by form and file, one row for files without any, then those named."""
    taken = [row for row in rows if row["prefix"] or row["plain"]]
    others = [row for row in rows if row not in taken]
    lines = ["| timm's file | prefix | plain | refused |", "|---|--:|--:|--:|"]
    for row in taken:
        counts = " | ".join(str(len(row[form])) for form in FORMS)
        lines.append(f"| `{row['file']}` | {counts} |")
    n_models = sum(len(row["refused"]) for row in others)
    lines += [f"| {len(others)} others | 0 | 0 | {n_models} |", ""]
    plain = ", ".join(f"`{name}`" for row in taken for name in row["plain"])
    return "\n".join([*lines, f"In the plain form: {plain or 'none'}."])


def main(words: Sequence[str] | None = None) -> None:
    """Ask every model, write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", help="only these files of timm; nothing is written")
    options = parser.parse_args(words)
    start = time.perf_counter()
    rows = families(options.modules or timm.list_modules())
    print(table(rows))
    if options.modules:
        return
    path = ROOT / "results" / "families.json"
    write_record(path, rows, seconds=time.perf_counter() - start, device=torch.device("cpu"))
    page = ROOT / "book" / "backbones.md"
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    text = f"{before}{START}\n\n{table(rows)}\n\n{END}{after}"
    page.write_text(text, encoding="utf-8")
    n_models = {form: sum(len(row[form]) for row in rows) for form in FORMS}
    print(json.dumps(n_models))


if __name__ == "__main__":
    main()
