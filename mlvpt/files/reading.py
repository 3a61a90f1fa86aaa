"""Reading: JSON is checked against a schema, and files are told apart by their SHA-256."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlvpt.errors import InputError


def read_json(path: str | Path, what: str, schema: Any = object) -> Any:
    """Read a JSON file and check it; `what` names it in errors, as "the model's configuration".

    Args:
        path: the file.
        what: what it holds.
        schema: see `check_schema`.

    Raises:
        InputError: the file is missing, is not JSON, has a key twice, NaN or infinity, or does not
            fit the schema; names the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {what} is read from it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {what} is in it.") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} holds no valid JSON ({reason}): {what} cannot be read.") from None
    wrong = check_schema(content, schema)
    if wrong:
        raise InputError(f"{path} was damaged or edited ({wrong}): restore {what}.")
    return content


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    None: "null",
    object: "anything",
}


def check_schema(value: Any, schema: Any, key: str = "") -> str | None:
    """What is wrong with a value that was read from JSON, or None.

    Args:
        value: the value.
        schema: str, int, float (any finite number), bool, None or object (anything); [S] is a
            list of S; {str: S} maps any text to S; {"a": S, "b?": S} has the key a and perhaps b,
            and may have others; a tuple is a choice.
        key: of the value, for the message.

    Example:
        >>> check_schema({"co": [0, "x"]}, {"co": [int], "names?": [str]})
        "co[1] must be a whole number, not 'x'"
        >>> check_schema({}, {"co": [int]})
        'the key co is missing'
    """
    if isinstance(schema, tuple):
        wrong = [check_schema(value, each, key) for each in schema]
        if None in wrong:
            return None
        deep = [w for w in wrong if not w.startswith(f"{key or 'it'} must be")]
        return deep[0] if deep else _wrong(value, schema, key)
    if isinstance(schema, list) and isinstance(value, list):
        wrong = (check_schema(v, schema[0], f"{key}[{i}]") for i, v in enumerate(value))
        return next(filter(None, wrong), None)
    if isinstance(schema, Mapping) and isinstance(value, Mapping):
        if str in schema:
            schema = dict.fromkeys(value, schema[str])
        for name, each in schema.items():
            inner = f"{key}.{name.rstrip('?')}".lstrip(".")
            if name.rstrip("?") not in value and name not in value:
                if not name.endswith("?"):
                    return f"the key {inner} is missing"
                continue
            wrong = check_schema(value.get(name, value.get(name.rstrip("?"))), each, inner)
            if wrong:
                return wrong
        return None
    return None if _is(value, schema) else _wrong(value, schema, key)


def _is(value: Any, kind: Any) -> bool:
    if kind is object or kind is None:
        return kind is object or value is None
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and -math.inf < value < math.inf
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(kind, type) and isinstance(value, kind)


def _wrong(value: Any, schema: Any, key: str) -> str:
    return f"{key or 'it'} must be {_words(schema)}, not {shortened(value)}"


def _words(schema: Any) -> str:
    if isinstance(schema, tuple):
        return " or ".join(_words(each) for each in schema)
    if isinstance(schema, (list, Mapping)):
        return "a list" if isinstance(schema, list) else "a mapping"
    return WORDS[schema]


def shortened(value: Any) -> str:
    """A value as text of one line, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no numbers of more than 4300 digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:56]} ..."


def sha256_of_json(content: Any) -> str:
    """SHA-256 of a value as JSON has it, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
