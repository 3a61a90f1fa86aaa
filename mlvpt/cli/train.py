"""The command that trains: a recipe, changed by options, or a run to continue."""

import argparse
from pathlib import Path
from typing import Any

from mlvpt.errors import InputError


def train(argv: list[str]) -> None:
    """`mlvpt train`"""
    from jsonargparse import ArgumentError

    from mlvpt.training import recipes

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser = recipes.make_parser(prog="mlvpt train", description="Train a model.")
    for target in (early, parser):
        target.add_argument("--recipe", help="a packaged recipe by name, or a YAML file")
        target.add_argument("--out", help="run folder; default: runs/NAME_seedN")
        target.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
        target.add_argument("--quiet", action="store_true", help="no bar and no lines")
    try:
        options, rest = early.parse_known_args(argv)
        if options.recipe and options.resume:
            raise InputError("--resume takes its settings from the run: drop --recipe.")
        if options.out and options.resume:
            raise InputError("--resume continues in its own folder: drop --out.")
        start: dict[str, Any] = {}
        if options.recipe:
            start = recipes.read_dict(recipes.recipe_path(options.recipe))
        elif options.resume:
            path = Path(options.resume) / "config.json"
            if not path.is_file():
                raise InputError(
                    f"{options.resume} holds no run (no config.json): nothing to resume."
                )
            start = recipes.read_dict(path)
        if not {"-h", "--help"} & set(rest):
            names = [word[2:].split("=")[0] for word in rest if word.startswith("--")]
            recipes.check_keys([name for name in names if name not in recipes.SECTIONS])
            parser.set_defaults(recipes.flatten(recipes.from_dict(start)))
        config = recipes.build(parser.parse_args(rest))
    except (ArgumentError, argparse.ArgumentError) as error:
        raise InputError(recipes.readable(error)) from None
    from mlvpt.training import loop

    name = (
        Path(options.recipe).stem if options.recipe else f"{config.data.name}_{config.model.method}"
    )
    out = options.resume or options.out or f"runs/{name}_seed{config.optim.seed}"
    summary = loop.train(config, out, resume=options.resume is not None, progress=not options.quiet)
    if summary and not options.quiet:  # of several processes the first speaks
        print(f"model, metrics and summary are in {out}")
