"""Shared by the scripts of this folder: their command line, and the counts they end with."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _download import Archive, PrepError, install

from mlvpt.datasets import MultiLabelDataset
from mlvpt.errors import InputError

# What is counted: name in the table, and how.
COUNTS: dict[str, Callable[[MultiLabelDataset], int]] = {
    "images": len,
    "labels": lambda ds: int((ds.targets == 1).sum()),
    "images without a label": lambda ds: int((~(ds.targets == 1).any(axis=1)).sum()),
    "images with a label": lambda ds: int((ds.targets == 1).any(axis=1).sum()),
    "ignored (difficult) labels": lambda ds: int((ds.targets == -1).sum()),
    "image files missing": lambda ds: sum(
        not ds.image_path(index).is_file() for index in range(len(ds))
    ),
}


def report(dataset: MultiLabelDataset, known: Mapping[str, int]) -> list[str]:
    """Print the counts of one split beside the known ones, and the images of every class.

    Args:
        dataset: a split, loaded as training loads it.
        known: published numbers, by the names in COUNTS.

    Returns:
        One sentence for each count that differs.
    """
    print(f"\n{dataset.name}")
    differences = []
    for name, count in COUNTS.items():
        value = count(dataset)
        expected = known.get(name)
        note = "" if expected is None else " (as published)"
        if expected is not None and value != expected:
            note = f" DIFFERS from the published {expected:,}"
            differences.append(f"{dataset.name}: {name} is {value:,}, published {expected:,}")
        print(f"  {name}: {value:,}{note}")
    per_class = (dataset.targets == 1).sum(axis=0)
    pairs = [
        f"{name} {n:,}" for name, n in zip(dataset.class_names, per_class.tolist(), strict=True)
    ]
    print("  images per class: " + ", ".join(pairs))
    return differences


def run(
    description: str,
    argv: Sequence[str] | None,
    *,
    default_root: str,
    archives: Mapping[str, tuple[Archive, ...]],
    known: Mapping[str, Mapping[str, int]],
    load: Callable[[Path, str], MultiLabelDataset],
    find: Mapping[str, str] | None = None,
    manual_step: Callable[[Path], str | None] = lambda root: None,
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    prepare: Callable[[argparse.Namespace], Mapping[str, Mapping[str, int]]] | None = None,
) -> int:
    """A whole script: parse, install what is not there, count; say what went wrong in a sentence.

    Args:
        description: of the script, for --help.
        argv: arguments; None: those of the process.
        default_root: default of --root.
        archives: for every file or folder to make under the root, what it is unpacked from.
        known: published counts of every split.
        load: (root, split) -> data set, as training loads it.
        find: see `install`, by target.
        manual_step: what the user has still to do, or None.
        add_options: adds the script's own options to the command line.
        prepare: makes what is still missing after unpacking, and returns the counts to compare
            with in place of `known`.

    Returns:
        Exit code: 0 complete and as published, 1 something to act on, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(default_root), help="where the data goes")
    parser.add_argument("--base-url", help="download from this folder instead of the official site")
    parser.add_argument(
        "--keep-archives", action="store_true", help="do not remove archives after unpacking"
    )
    add_options(parser)
    arguments = parser.parse_args(argv)
    root = arguments.root
    try:
        for target, sources in archives.items():
            install(
                root,
                target,
                sources,
                find=(find or {}).get(target),
                base_url=arguments.base_url,
                keep_archives=arguments.keep_archives,
            )
        if prepare is not None:
            known = prepare(arguments)
        differences = []
        for split, counts in known.items():
            differences += report(load(root, split), counts)
    except (PrepError, InputError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nStopped. What was downloaded is kept: run again to go on from there.",
            file=sys.stderr,
        )
        return 130
    if differences:
        print("\nThe data are not as published:", *differences, sep="\n  ", file=sys.stderr)
        print("Move the folder away and run again to make it anew.", file=sys.stderr)
        return 1
    step = manual_step(root)
    print(f"\n{step}" if step else "\nComplete.")
    return 1 if step else 0
