"""Hygiene of the book's notebooks. Nothing is executed here: nbval runs the cells."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mlvpt.studies.pages import first_picture

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]  # no intro, no appendix

MOST_LINES, MOST_COLUMNS = 25, 90  # what a page shows without scrolling
MOST_BYTES, MOST_FIGURE_BYTES = 1_500_000, 150_000
MACHINE_PATH = re.compile(r"(?<![\w.])/(root|work|tmp|home/\w+|Users/\w+|mnt|content)/[\w.]")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def has_image(cell):
    return any("image/png" in out.get("data", {}) for out in cell["outputs"])


def texts(output):
    yield "".join(output.get("text", ""))
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield "".join(content)


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def problems(notebook):
    """What is wrong with the code cells of a notebook, in words."""
    found, count = [], 0
    for number, cell in enumerate(cells(notebook, "code")):
        where = f"code cell {number}"
        skipped = "nbval-skip" in tags(cell)
        if skipped != ("skip-execution" in tags(cell)):
            found.append(f"{where} has one of the tags nbval-skip and skip-execution, not both")
        if not skipped:
            count += 1
            if cell["execution_count"] != count:
                found.append(f"{where} was not executed, or not in order")
        if len(source(cell).splitlines()) > MOST_LINES:
            found.append(f"{where} has more than {MOST_LINES} lines")
        if max(map(len, source(cell).splitlines()), default=0) > MOST_COLUMNS:
            found.append(f"{where} has a line of more than {MOST_COLUMNS} columns")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                found.append(f"{where} failed: {output['ename']}")
            if output.get("name") == "stderr":
                found.append(f"{where} wrote to stderr")
            if any(MACHINE_PATH.search(text) for text in texts(output)):
                found.append(f"{where} shows a path of somebody's machine")
            if len(output.get("data", {}).get("image/png", "")) * 3 // 4 > MOST_FIGURE_BYTES:
                found.append(f"{where} has a figure of more than {MOST_FIGURE_BYTES} bytes")
        described = cell["metadata"].get("mystnb", {})
        if "figure" in described and not has_image(cell):
            found.append(f"{where} should show a figure, and shows none")
        if has_image(cell) and "remove-cell" not in tags(cell):
            if not described.get("image", {}).get("alt"):
                found.append(f"{where} draws a figure without alt text")
            figure = described.get("figure", {})
            if not figure.get("caption") or not figure.get("name"):
                found.append(f"{where} draws a figure without caption or name")
    return found


@each_notebook
def test_cells_ran_in_order_cleanly_and_are_short(path):
    assert problems(load(path)) == []


@each_notebook
def test_first_cell_installs_the_package_if_it_is_missing(path):
    first = cells(load(path), "code")[0]
    assert 'find_spec("mlvpt") is None' in source(first)
    assert "git+https://github.com/mlvpt/mlvpt" in source(first)
    assert {"remove-cell", "nbval-ignore-output"} <= tags(first)


@each_notebook
def test_asserts_and_the_installer_are_not_on_the_page(path):
    """A page shows no assert outside of functions and loops; nbval runs those in hidden cells."""
    shown = [
        source(cell)
        for cell in cells(load(path), "code")
        if not {"remove-cell", "nbval-skip"} & tags(cell)
    ]
    assert [text for text in shown if re.search(r"^assert ", text, flags=re.MULTILINE)] == []


def test_the_first_picture_is_the_one_that_the_intro_draws():
    """`_static/erased.png`, on page one and in the README, is written by `make tables`."""
    assert (BOOK / "_static" / "erased.png").read_bytes() == first_picture()


@each_notebook
def test_a_notebook_stays_small(path):
    assert path.stat().st_size <= MOST_BYTES


@each_notebook
def test_every_figure_is_cited_in_the_text(path):
    notebook = load(path)
    prose = "\n".join(source(cell) for cell in cells(notebook, "markdown"))
    names = [
        c["metadata"].get("mystnb", {}).get("figure", {}).get("name") for c in notebook["cells"]
    ]
    assert [name for name in filter(None, names) if f"{{numref}}`{name}`" not in prose] == []


@each_notebook
def test_figures_that_are_no_charts_are_marked_as_pictures(path):
    """A dark page turns the lightness of charts over, which are drawn in a handful of colours."""
    unmarked = []
    for cell in cells(load(path), "code"):
        for output in cell["outputs"]:
            png = "".join(output.get("data", {}).get("image/png", ""))
            if png and not {"picture", "remove-cell"} & tags(cell):
                image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
                counts = sorted((n for n, _ in image.getcolors(2**24)), reverse=True)
                if sum(counts[:16]) < 0.9 * sum(counts):
                    unmarked.append(cell["id"])
    assert unmarked == []


@each_notebook
def test_no_bracket_follows_the_start_of_aligned_lines(path):
    """TeX would take it for an option and leave it out: a formula without its left side."""
    prose = "\n".join(source(cell) for cell in cells(load(path), "markdown"))
    assert re.findall(r"\\begin\{\w*aligned\}\s*\[.*", prose) == []


@each_chapter
def test_chapter_ends_with_exercises_omissions_and_the_way_to_the_code(path):
    prose = "\n".join(source(cell) for cell in cells(load(path), "markdown"))
    places = [
        prose.find(f"\n## {title}")
        for title in ("Exercises", "What we did not show", "Where it lives in the code")
    ]
    assert -1 not in places
    assert places == sorted(places)


@each_chapter
def test_every_exercise_has_an_executed_folded_solution(path):
    notebook = load(path)
    prose = "\n".join(source(cell) for cell in cells(notebook, "markdown"))
    exercises = re.findall(r"\{admonition\} Exercise (\d+)\.(\d+)", prose)
    folded = [cell for cell in cells(notebook, "code") if "hide-cell" in tags(cell)]
    assert 2 <= len(exercises) <= 4
    assert len(folded) >= len(exercises)
    assert {chapter for chapter, _ in exercises} == {str(int(path.stem[:2]))}


def test_no_function_is_defined_in_two_notebooks():
    homes = {}
    for path in NOTEBOOKS:
        for cell in cells(load(path), "code"):
            for name in re.findall(r"^(?:def|class) (\w+)", source(cell), flags=re.MULTILINE):
                homes.setdefault(name, set()).add(path.stem)
    assert {name: chapters for name, chapters in homes.items() if len(chapters) > 1} == {}


def test_every_page_is_in_the_table_of_contents_and_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"]]
    for chapter in (chapter for part in toc["parts"] for chapter in part["chapters"]):
        listed += [chapter["file"], *(s["file"] for s in chapter.get("sections", []))]
    pages = [p for p in BOOK.rglob("*") if p.suffix in (".ipynb", ".md")]
    pages = [p for p in pages if not any(part.startswith((".", "_")) for part in p.parts)]
    written = (path.relative_to(ROOT).with_suffix("").as_posix() for path in pages)
    assert sorted(listed) == sorted(written)


def test_bibliography_has_at_least_25_works_and_no_key_twice():
    keys = re.findall(
        r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text("utf-8"), re.MULTILINE
    )
    assert len(keys) >= 25
    assert len(keys) == len(set(keys))


def code(text="1", count=1, outputs=(), **metadata):
    return {
        "cell_type": "code",
        "source": text,
        "execution_count": count,
        "outputs": list(outputs),
        "metadata": metadata,
    }


PICTURE = {"output_type": "display_data", "data": {"image/png": "abcd"}}
FIGURE = {"figure": {"caption": "c", "name": "fig"}, "image": {"alt": "a"}}


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (code(count=None), "not executed"),
        (code(count=2), "not in order"),
        (code("\n".join("x" * 26)), "more than 25 lines"),
        (code("x" * 91), "more than 90 columns"),
        (code(outputs=[{"output_type": "error", "ename": "KeyError"}]), "failed: KeyError"),
        (code(outputs=[{"output_type": "stream", "name": "stderr", "text": "w"}]), "stderr"),
        (code(outputs=[{"output_type": "stream", "name": "stdout", "text": "/tmp/x"}]), "path"),
        (code(outputs=[PICTURE]), "alt text"),
        (code(outputs=[PICTURE], mystnb={"image": {"alt": "a"}}), "caption"),
        (code(mystnb=FIGURE), "shows none"),
        (code(tags=["nbval-skip"]), "not both"),
    ],
)
def test_a_notebook_with_a_flaw_is_refused(cell, complaint):
    assert any(complaint in problem for problem in problems({"cells": [cell]}))


def test_a_good_cell_and_a_skipped_one_pass():
    good = code(outputs=[PICTURE], mystnb=FIGURE)
    skipped = code(count=None, tags=["nbval-skip", "skip-execution"])
    assert problems({"cells": [good, skipped]}) == []
