"""Commands that train: one run, or the many runs of a study."""

import re
from pathlib import Path
from typing import Any

from mlvpt.errors import InputError
from mlvpt.studies import ablations
from mlvpt.training import loop, recipes
from mlvpt.training.config import EXECUTION, FREE_ON_RESUME, TrainConfig, flatten


def train(options: Any) -> None:
    """`mlvpt train`"""
    if options.recipe and options.resume:
        raise InputError("--resume takes its settings from the run: drop --recipe.")
    if options.out and options.resume:
        raise InputError("--resume continues in its own folder: drop --out.")
    start = TrainConfig()
    if options.recipe:
        start = recipes.load(recipes.recipe_path(options.recipe))
    elif options.resume:
        path = Path(options.resume) / "config.json"
        if not path.is_file():
            raise InputError(f"{options.resume} holds no run (no config.json): nothing to resume.")
        start = recipes.load(path)
    config = recipes.change(start, options.settings)
    name = f"{config.data.name}_{config.model.method}"
    if options.recipe:
        name = Path(options.recipe).stem
    out = options.resume or options.out or f"runs/{name}_seed{config.optim.seed}"
    summary = loop.train(config, out, resume=options.resume is not None, progress=not options.quiet)
    if summary and not options.quiet:  # of several processes the first speaks
        print(f"model, metrics and summary are in {out}")


def ablate(options: Any) -> None:
    """`mlvpt ablate`"""
    before, default = ablations.scenes_base(), Path("results")
    if options.recipe:
        before = recipes.load(recipes.recipe_path(options.recipe))
        default = default / Path(options.recipe).stem
    base = recipes.change(before, options.settings)
    # where files lie is a recipe's to be told
    told = FREE_ON_RESUME if options.recipe else EXECUTION
    then, now = flatten(before), flatten(base)
    other = [n for n in now if now[n] != then[n] and n not in {*told, "optim.seed"}]
    if other and not options.out:
        raise InputError(
            f"the studies in {default} have another {', '.join(other)}: name a folder for yours "
            "with --out."
        )
    table = ablations.ablate(
        options.name,
        seeds=options.seeds,
        base=base,
        out=options.out or default,
        workers=options.workers,
        only=re.split(",(?! )", options.only) if options.only else (),
        quiet=options.quiet,
    )
    print(table)
