"""Parts of pages that are made from other files, such as the tables of results.

`python -m mlvpt.studies.pages` (or `make tables`), in a copy of the repository, writes them anew:
between their markers the tables of results in README.md and results/README.md and that of recipes
in book/recipes.md, the README's picture from the output of the book's first page, and the figures
of photographs. tests/book checks that they are up to date.
"""

import base64
import json
import re
from pathlib import Path

from mlvpt.studies import photographs, tables
from mlvpt.studies.tables import layout
from mlvpt.training.recipes import recipe_names, recipe_path


def recipes_table() -> str:
    """Every recipe, and what its command needs beside name and data: Markdown."""
    table = [["data", "backbone", "px", "recipe", "its command also needs"]]
    for name in recipe_names():
        text = recipe_path(name).read_text(encoding="utf-8")
        first = text.splitlines()[0]
        data, backbone, size = first.removeprefix("# ").rstrip(".").split("; ")
        data, size = data.split(", ")[0], size.removesuffix(" px")
        run = re.search(r"^# Run:((?:.*\\\n)*.*)", text, flags=re.MULTILINE)[1]
        command = " ".join(re.sub(r"\\\n#", " ", run).split())  # continued lines as one
        command = command.removeprefix(f"mlvpt train --recipe {name} ")
        for usual in ("--data.root DIR", f"--out runs/{name}"):
            command = re.sub(rf"{re.escape(usual)}(?= |$)", "", command)
        extra = " ".join(command.split())
        table.append([data, backbone, size, f"`{name}`", f"`{extra}`" if extra else ""])
    return layout(table, markdown=True, words=(0, 1, 3, 4))


def with_tables(text: str) -> str:
    """A page's text with today's tables between its markers, those of them that it has."""
    made = {
        "results": tables.methods_table,
        "photographs": photographs.photographs_table,
        "groups": photographs.groups_table,
        "ablations": photographs.ablations_table,
        "claim": photographs.claim_table,
        "recipes": recipes_table,
    }
    for name, table in made.items():
        start, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if start in text:
            head, _, rest = text.partition(start)
            text = f"{head}{start}\n{table()}\n{end}{rest.partition(end)[2]}"
    return text


def first_picture() -> bytes:
    """The PNG that the book's first page draws of the painted-over scenes."""
    page = json.loads(Path("book/intro.ipynb").read_text(encoding="utf-8"))
    (cell,) = (cell for cell in page["cells"] if cell["id"] == "cell-10-picture")
    (image,) = (out["data"]["image/png"] for out in cell["outputs"])
    return base64.b64decode("".join(image))


if __name__ == "__main__":
    for path in (Path("README.md"), Path("results/README.md"), Path("book/recipes.md")):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
    Path("book/_static/erased.png").write_bytes(first_picture())
    photographs.draw(Path("book/_static"))
