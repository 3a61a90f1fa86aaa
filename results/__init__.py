"""Recorded runs: at the repository's root for people, installed as `mlvpt.results` for code.

README.md says what a record holds. Nothing here is written by hand.
"""

import json
from importlib import resources
from typing import Any


def load(name: str) -> list[dict[str, Any]]:
    """The records of one study, in the order in which they were measured.

    Args:
        name: file name without suffix, such as "baselines" (on scenes), or with its folder, such as
            "voc2007_deit_tiny/groups".

    Raises:
        FileNotFoundError: no study of that name was recorded; the known ones are named.
    """
    folder = resources.files(__name__)
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        known = sorted(p.name[:-6] for p in folder.iterdir() if p.name.endswith(".jsonl"))
        raise FileNotFoundError(f"No recorded study {name!r}. Known: {', '.join(known) or 'none'}.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
