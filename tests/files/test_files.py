"""What a command leaves, and what the package reads back."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlvpt import LabelGroups
from mlvpt.errors import InputError
from mlvpt.files import Outputs, atomic_path, check_schema, read_json, write_json, write_text


def test_a_symbolic_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "real.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_json(link, [1])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [1]


def test_a_link_to_nothing_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_text() == "x"


def test_an_existing_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        for path in (old, new):
            with atomic_path(path) as temporary:  # as safetensors does
                temporary.unlink()
                os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o640, 0o640]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert read == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_a_full_one_is_named():
    write_text("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left") as full:
        write_text("/dev/full", "x")
    assert full.value.filename == "/dev/full"


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_whatever_its_name(name, capfd):
    write_text(name, "here")
    assert capfd.readouterr().out == "here"


def test_a_folder_and_a_socket_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        write_text(tmp_path, "x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(InputError, match="is a socket"):
            write_text(tmp_path / "socket", "x")


def test_the_longest_name_that_a_disk_takes_is_written_and_a_longer_one_named(tmp_path):
    write_text(tmp_path / ("é" * 127), "x")
    assert (tmp_path / ("é" * 127)).read_text() == "x"
    with pytest.raises(OSError, match="too long") as long:
        write_text(tmp_path / ("x" * 256), "x")
    assert "xxx" in str(long.value.filename)
    with pytest.raises(InputError, match=r"--csv.*too long"):
        Outputs().add(tmp_path / ("x" * 256), "--csv")


def test_a_name_that_is_no_text_is_written_as_an_escape_that_json_reads(tmp_path):
    write_json(tmp_path / "a.json", {"image": "caf\udce9.png"})
    assert read_json(tmp_path / "a.json", "names") == {"image": "caf\udce9.png"}


@pytest.mark.parametrize("how", ["the same", "by a link", "by a hard link", "by another spelling"])
def test_an_output_that_is_an_input_is_refused(how, tmp_path):
    picture, other = tmp_path / "a.png", tmp_path / "b"
    picture.write_bytes(b"picture")
    if how == "by a link":
        other.symlink_to(picture)
    elif how == "by a hard link":
        other.hardlink_to(picture)
    else:
        other = picture if how == "the same" else tmp_path / "." / "x" / ".." / "a.png"
        (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match=r"--csv: .* is read by this command"):
        Outputs([picture]).add(other, "--csv")


def test_two_outputs_of_one_name_are_refused(tmp_path):
    outputs = Outputs()
    outputs.add(tmp_path / "a", "--csv")
    with pytest.raises(InputError, match="--json and --csv name one file"):
        outputs.add(tmp_path / "x" / ".." / "a", "--json")
    outputs.add("-", "--csv")
    with pytest.raises(InputError, match="name one file"):
        outputs.add("/dev/stdout", "--json")


def test_a_file_of_the_users_is_replaced_only_where_it_was_named(tmp_path):
    (tmp_path / "a").write_text("mine")
    Outputs().add(tmp_path / "a", "--csv")
    with pytest.raises(InputError, match="was not written by this package"):
        Outputs().add(tmp_path / "a", "--plot", own=lambda _: False)


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match=r"a folder is needed|cannot be written"):
        Outputs().add(tmp_path / "a" / "b" / "c", "--csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        ('{"a": NaN}', "NaN"),
        ("[" * 100_000, "JSON"),
        ("1" * 5000, "JSON"),
        ("", "JSON"),
        ('{"b": 1}', "the key a is missing"),
        ('{"a": [true]}', r"a\[0\] must be a whole number, not True"),
        ('{"a": 1e999}', "a must be a list"),
        ("[]", "it must be a mapping"),
    ],
)
def test_json_that_does_not_fit_names_file_and_key(text, said, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"state\.json .*{said}"):
        read_json(path, "the state", {"a": [int]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["co", "dc", "n_groups", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_any_json_in_place_of_label_groups_is_read_or_refused_in_one_sentence(tmp_path_factory, x):
    path = tmp_path_factory.getbasetemp() / "groups.json"
    path.write_text(json.dumps(x))
    said = "groups.json"
    try:
        LabelGroups.from_json(path)
    except InputError as error:
        said = str(error)
    assert "groups.json" in said
    assert "\n" not in said


@given(JSON, JSON)
def test_a_schema_never_fails_itself(value, other):
    schema = {"co": [int], "dc?": (None, {str: float}), "x?": [{"co": str}]}
    assert check_schema(value, schema) is None or isinstance(check_schema(value, schema), str)


PRINTING = """
import sys
from mlvpt.cli import main as cli
def work(words):
    for _ in range(20000):
        print('a line with an \\u00e9 and a \\udce9')
    open(sys.argv[1], 'w').write('done')
    return 0
cli._run = work
sys.exit(cli.main(['work']))
"""


@pytest.mark.parametrize("end", ["| head -1", "> /dev/null", ">&-", "2>&-"])
def test_printing_that_fails_costs_nothing(end, tmp_path):
    words = f"set -o pipefail; '{sys.executable}' -c \"$CODE\" {tmp_path}/done {end}"
    environment = {**os.environ, "CODE": PRINTING, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(["bash", "-c", words], env=environment, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "done").read_text() == "done"


def test_printing_to_a_full_disk_is_said_after_the_work(tmp_path):
    words = f"'{sys.executable}' -c \"$CODE\" {tmp_path}/done > /dev/full"
    environment = {**os.environ, "CODE": PRINTING}
    found = subprocess.run(["bash", "-c", words], env=environment, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == "mlvpt: standard output: No space left on device.\n"
    assert (tmp_path / "done").read_text() == "done"
