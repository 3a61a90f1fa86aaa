"""The command that makes a study: many runs, resumable, and their table."""

import argparse

from .cli import parser_for
from .errors import InputError


def ablate(argv: list[str]) -> None:
    """`mlvpt ablate`"""
    from jsonargparse import ArgumentError

    from . import settings
    from .ablations import ablate as make_study
    from .ablations import scenes_base
    from .config import EXECUTION, FREE_ON_RESUME

    own = parser_for("ablate")
    own.add_argument("name", help="pooling, lr_sweep, baselines, ablations, strength, or all")
    own.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 (default: 5)")
    own.add_argument("--recipe", help="the run that is varied; default: scenes, 16 prompts")
    own.add_argument("--out", help="folder of the records; default: results, or results/RECIPE")
    own.add_argument("--workers", type=int, help="processes; default: one per GPU, or per core")
    own.add_argument("--quiet", action="store_true", help="print the table alone")
    own.epilog = "Any setting of `mlvpt train --help` changes the base: --data.root DIR."
    options, rest = own.parse_known_args(argv)
    base = scenes_base()
    if options.recipe:
        base = settings.from_dict(settings.read_dict(settings.recipe_path(options.recipe)))
    settings.check_keys([word[2:].split("=")[0] for word in rest if word.startswith("--")])
    parser = settings.make_parser()
    before = settings.flatten(base)
    parser.set_defaults(before)
    try:
        base = settings.build(parser.parse_args(rest))
    except (ArgumentError, argparse.ArgumentError) as error:
        raise InputError(settings.readable(error)) from None
    default = f"results/{options.recipe}" if options.recipe else "results"
    # where files lie is a recipe's to be told
    told = FREE_ON_RESUME if options.recipe else EXECUTION
    after = settings.flatten(base)
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
        quiet=options.quiet,
    )
    print(table)
