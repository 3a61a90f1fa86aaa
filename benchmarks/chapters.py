"""How long each chapter of the book takes, run from its first cell to its last.

    python benchmarks/chapters.py                   # every chapter, about 8 minutes on 2 cores
    python benchmarks/chapters.py 03_prompts 08_ablations

One chapter after the other, in a fresh kernel and an empty folder; the notebooks are not changed.
The seconds, imports and figures included, go to results/chapters.jsonl, a line per chapter; lines
of chapters that were not run again stay.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from tqdm.auto import tqdm

from mlvpt.training.record import make_record

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "chapters.jsonl"


def run(path: Path) -> float:
    """Seconds that a chapter takes; an error in a cell ends the program."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": folder}},
            skip_cells_with_tag="skip-execution",
        )
        start = time.perf_counter()
        client.execute()
        return time.perf_counter() - start


def main() -> None:
    """Run the chapters, print and record their seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="file names without .ipynb; default: all")
    names = parser.parse_args().chapters
    paths = sorted((ROOT / "book").glob("*.ipynb"))
    paths = [path for path in paths if not names or path.stem in names]
    lines = {}
    if OUT.exists():
        lines = {json.loads(line)["chapter"]: line for line in OUT.read_text().splitlines()}
    for path in tqdm(paths, desc="chapters"):
        record = make_record(None, seconds=run(path), seed=0)
        del record["results"], record["peak_memory_mb"]  # the chapter ran in a kernel
        print(f"{path.stem:24}{record['seconds']:6.0f} s")
        lines[path.stem] = json.dumps({"chapter": path.stem, **record})
    OUT.write_text("".join(f"{lines[name]}\n" for name in sorted(lines)))


if __name__ == "__main__":
    main()
