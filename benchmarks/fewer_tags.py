"""Groups by labels, groups by chance and one group, where fewer classes share the experts.

    python benchmarks/fewer_tags.py clothing_deit_tiny --data.root DIR/labels.csv

Groups should matter more where many classes have to share one group. So the most frequent tags
alone are kept, 12 and 24 of them, with all images, and the same five groups. For each number the
manifest goes to data/RECIPE_N_tags.csv; the runs, at the recipe's rate and decay and trained on all
training images, go to results/RECIPE/fewer_tags.jsonl, and what is there is not made again.

Further words are settings, such as --model.backbone_checkpoint FILE or --data.token_cache FOLDER.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

from mlvpt.files import write_text
from mlvpt.studies.grid import Job, run_grid
from mlvpt.studies.tables import study_table
from mlvpt.training.config import TrainConfig
from mlvpt.training.recipes import change, load, recipe_path

RESULTS = Path(__file__).parents[1] / "results"
SOURCES = ("labels", "random", "single")


def keep_tags(manifest: Path, n_tags: int, to: Path) -> Path:
    """Write a manifest with the tags that are most frequent in its training images alone."""
    with open(manifest, encoding="utf-8", newline="") as file:
        rows = [dict(row, labels=row["labels"].split(";")) for row in csv.DictReader(file)]
    counts = Counter(tag for row in rows if row["split"] == "train" for tag in row["labels"])
    kept = {tag for tag, _ in counts.most_common(n_tags)}
    lines = [
        f"{row['path']},{';'.join(tag for tag in row['labels'] if tag in kept)},{row['split']}"
        for row in rows
    ]
    to.parent.mkdir(parents=True, exist_ok=True)
    write_text(to, "\n".join(["path,labels,split", *lines, ""]))
    return to


def jobs_of(base: TrainConfig, n_tags: int, seeds: int) -> list[Job]:
    """A run per source of groups and seed; one group has as many prompts as the others have."""
    experts = base.model.experts_per_group
    jobs = []
    for seed in range(seeds):
        for source in SOURCES:
            changes = {"model.group_source": source, "optim.seed": seed, "data.hold_out": False}
            if source == "single":
                changes["model.experts_per_group"] = base.model.n_groups * experts
            name = f"{source}, {base.model.n_groups}, {n_tags} tags"
            jobs.append(Job(name, change(base, changes)))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--tags", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--seeds", type=int, default=3)
    options, rest = parser.parse_known_args()
    settings = dict(zip((word.removeprefix("--") for word in rest[::2]), rest[1::2], strict=True))
    base = change(load(recipe_path(options.recipe)), settings)
    whole, jobs = Path(base.data.root), []
    for n_tags in options.tags:
        root = keep_tags(whole, n_tags, Path("data") / f"{options.recipe}_{n_tags}_tags.csv")
        images = {"data.root": str(root), "data.image_root": str(whole.parent)}
        jobs += jobs_of(change(base, images), n_tags, options.seeds)
    rows = run_grid(jobs, RESULTS / options.recipe / "fewer_tags.jsonl", workers=1)
    print(study_table(rows))


if __name__ == "__main__":
    main()
