"""Download, unpack and count Visual Genome (15 GB).

    python data_prep/visual_genome.py --root data/visual_genome

makes image_data.json, objects.json, VG_100K/ and VG_100K_2/ in data/visual_genome, which
`load_visual_genome("data/visual_genome")` reads. For `load_vg256`, the paper's 256 classes, put the
class list vg256.json there too, from data/vg256 of https://github.com/xiemk/MLC-PAT; without it,
`--data.name visual_genome` takes the most frequent names.
"""

import sys

from _download import Archive
from _report import run

from mlvpt.datasets import load_visual_genome

DATA = "https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset"
IMAGES = "https://cs.stanford.edu/people/rak248/VG_100K_2"
# The publisher gives no checksums. That of image_data.json.zip is one that independent projects
# report; for the others the zip format's own check and the counts must do.
ARCHIVES = {
    "image_data.json": (
        Archive(
            "image_data.json.zip",
            DATA,
            sha256="b87a94918cb2ff4d952cf1dfeca0b9cf6cd6fd204c2f8704645653be1163681a",
        ),
    ),
    "objects.json": (Archive("objects.json.zip", DATA),),
    "VG_100K": (Archive("images.zip", IMAGES),),
    "VG_100K_2": (Archive("images2.zip", IMAGES),),
}
KNOWN = {"all": {"images": 108077, "image files missing": 0}}


def main(argv: list[str] | None = None) -> int:
    return run(
        __doc__,
        argv,
        default_root="data/visual_genome",
        archives=ARCHIVES,
        known=KNOWN,
        load=lambda root, split: load_visual_genome(root, split, empty="keep"),
    )


if __name__ == "__main__":
    sys.exit(main())
