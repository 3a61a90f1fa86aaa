"""Files that a command leaves, and files that the package reads back.

`writing` and `outputs` write, `reading` reads JSON; `saved_model` knows the two files of a trained
model, and `network` whether anything can be fetched.
"""

# ruff: noqa: F401  the names that other rooms use

from mlvpt.files.outputs import Outputs, output_to_standard
from mlvpt.files.reading import (
    check_schema,
    read_json,
    sha256_of_file,
    sha256_of_json,
    shortened,
)
from mlvpt.files.writing import atomic_path, stream_of, write_bytes, write_json, write_text
