"""The command that makes a study: many runs, resumable, and their table."""

import argparse

from mlvpt.cli.main import parser_for
from mlvpt.errors import InputError


def ablate(argv: list[str]) -> None:
    """`mlvpt ablate`"""
    from jsonargparse import ArgumentError

    from mlvpt.studies.ablations import ablate as make_study
    from mlvpt.studies.ablations import scenes_base
    from mlvpt.training import recipes
    from mlvpt.training.config import EXECUTION, FREE_ON_RESUME

    own = parser_for("ablate")
    own.add_argument(
        "name", help="pooling, lr_sweep, baselines, ablations, groups, blocks, strength, or all"
    )
    own.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 (default: 5)")
    own.add_argument("--recipe", help="the run that is varied; default: scenes, 16 prompts")
    own.add_argument("--out", help="folder of the records; default: results, or results/RECIPE")
    own.add_argument("--only", help="methods or variants, separated by commas; default: all")
    own.add_argument("--workers", type=int, help="processes; default: one per GPU, or per core")
    own.add_argument("--quiet", action="store_true", help="print the table alone")
    own.epilog = "Any setting of `mlvpt train --help` changes the base: --data.root DIR."
    options, rest = own.parse_known_args(argv)
    base = scenes_base()
    if options.recipe:
        base = recipes.from_dict(recipes.read_dict(recipes.recipe_path(options.recipe)))
    recipes.check_keys([word[2:].split("=")[0] for word in rest if word.startswith("--")])
    parser = recipes.make_parser()
    before = recipes.flatten(base)
    parser.set_defaults(before)
    try:
        base = recipes.build(parser.parse_args(rest))
    except (ArgumentError, argparse.ArgumentError) as error:
        raise InputError(recipes.readable(error)) from None
    default = f"results/{options.recipe}" if options.recipe else "results"
    # where files lie is a recipe's to be told
    told = FREE_ON_RESUME if options.recipe else EXECUTION
    after = recipes.flatten(base)
    other = [n for n in after if after[n] != before[n] and n not in {*told, "optim.seed"}]
    if other and not options.out:
        raise InputError(
            f"the studies in {default} have another {', '.join(other)}: name a folder for yours "
            "with --out."
        )
    table = make_study(
        options.name,
        seeds=options.seeds,
        base=base,
        out=options.out or default,
        workers=options.workers,
        only=options.only.split(",") if options.only else (),
        quiet=options.quiet,
    )
    print(table)
