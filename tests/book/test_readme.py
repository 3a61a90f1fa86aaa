"""The README is true: its tables are generated, its commands exist."""

import json
import re
from pathlib import Path

import pytest

from mlvpt.cli.main import COMMANDS
from mlvpt.studies import photographs
from mlvpt.studies.pages import with_tables
from mlvpt.training.recipes import recipe_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "book" / "recipes.md").read_text(encoding="utf-8")


def test_tables_are_those_generated_from_the_records_and_recipes():
    assert with_tables(README) == README
    assert with_tables(RECIPES) == RECIPES
    assert with_tables(RESULTS) == RESULTS
    for name in ("results", "photographs"):
        assert f"<!-- {name}:begin -->" in README
    for name in ("groups", "ablations", "claim"):
        assert f"<!-- {name}:begin -->" in RESULTS
    assert "<!-- recipes:begin -->" in RECIPES


@pytest.mark.parametrize("name", photographs.PHOTOGRAPHS)
def test_accuracy_against_cost_is_drawn_where_the_study_of_blocks_was_run(name):
    drawn = (ROOT / "book" / "_static" / f"cost_{name}.png").is_file()
    assert drawn == bool(photographs.recorded(name, "blocks"))


def test_every_recipe_is_listed_and_the_page_gives_the_command():
    assert "mlvpt train --recipe NAME --data.root DIR --out RUN" in RECIPES
    for name in recipe_names():
        assert f"| `{name}` |" in RECIPES
    extra = "--model.backbone_checkpoint vit-b-300ep.pth.tar"
    assert f"| `voc2007_vit_b16_mocov3` | `{extra}` |" in RECIPES


def test_every_command_in_the_readme_exists():
    used = set(re.findall(r"(?:^|`)mlvpt ([a-z]+)", README + RECIPES, flags=re.MULTILINE))
    assert used
    assert used <= set(COMMANDS)


def test_readme_begins_with_a_picture_and_is_short():
    """A newcomer reads it in two minutes: 1,000 words, code and tables left out."""
    assert re.match(r"# mlvpt\n\n!\[[^\]]{40,}\]\(([\w/.]+)\)", README)
    assert (ROOT / re.search(r"\]\(([\w/.]+png)\)", README)[1]).is_file()
    prose = re.sub(r"```.*?```|^\|.*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) < 1000


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "results/README.md"])
def test_every_make_target_that_is_named_exists(file):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", (ROOT / file).read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_readme_tells_the_recorded_time_and_memory_of_a_training_step():
    lines = (ROOT / "results" / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    case = {"model": "vit_small_patch16_224", "side": 224, "prompts": 30, "batch_size": 16}
    rows = [row for row in map(json.loads, lines) if case.items() <= row.items()]
    (wide,) = (row for row in rows if row["part"] == "prompts" and "AVX-512" in row["device"])
    (narrow,) = (row for row in rows if row["part"] == "prompts" and "AVX2" in row["device"])
    (in_use,) = (row for row in rows if row["part"] == "memory")
    recorded = [
        wide["step_prefix_over_plain"],
        narrow["step_prefix_over_plain"],
        narrow["step_products_over_plain"],
        wide["step_prefix_mb"] / wide["step_plain_mb"],
        in_use["step_prefix_mb"] / in_use["step_plain_mb"],
    ]
    told = re.search(r"A training step of ViT-S/16 with 16 images.*?\n\n", README, re.DOTALL)[0]
    assert re.findall(r"0\.\d+", told) == [f"{ratio:.2f}" for ratio in recorded]


def test_every_path_in_the_layout_table_exists():
    layout = README.split("## What is where")[1].split("## Citing")[0]
    for path in re.findall(r"^\| `([\w/]+)`", layout, flags=re.MULTILINE):
        assert (ROOT / path).exists(), path


def test_every_fault_in_the_table_is_backed_by_a_test_that_exists():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Faults")[1]
    named = re.findall(r"`(test_\w+)`", table)
    assert len(named) >= 16
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    missing = [name for name in named if f"def {name}(" not in sources]
    assert not missing
