"""Sphinx extension: the docstrings of `mlvpt`, written for `help()`, as web pages.

- A paragraph that is indented for its own sake, such as a formula or a tree of files, is shown as
  written; so is a fenced one.
- Stars and bars are multiplication and absolute value, not emphasis and substitution.
- What a function returns is a sentence, never "type: description": a colon in it is a colon.
- numpy's ArrayLike has its name, and not the seven types that it stands for.
- Models show their own arguments.

Sections that napoleon understands are left to it.
"""

import inspect
import re

from numpy.typing import ArrayLike
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

SECTION = re.compile(r"(Args|Attributes|Example|Examples|Raises|References|Returns|Shape|Yields):$")
OUTSIDE_CODE = re.compile(r"(`[^`]*`)|([*|])")


def process(app, what, name, obj, options, lines):
    lines[:] = returns_as_field(as_written(one_line_each(lines)))


def one_line_each(lines: list[str]) -> list[str]:
    """References on a line each: an indented second line would make a definition of the first."""
    result, inside = [], False
    for line in lines:
        if inside and line.startswith("        "):
            result[-1] += " " + line.strip()
            continue
        if line and not line.startswith(" "):
            inside = line == "References:"
        result.append(line)
    return result


def as_written(lines: list[str]) -> list[str]:
    """Indented and fenced paragraphs as literal blocks, stars and bars escaped elsewhere."""
    result, section, in_block, in_fence = [], "", False, False
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("```"):
            in_fence = not in_fence
            result += ["", "::", ""] if in_fence else [""]
            continue
        if in_fence:
            result.append("    " + line)
            continue
        indented = line.startswith("    ")
        if line and not indented:
            section, in_block = line if SECTION.match(line) else "", False
        if indented and not before.strip() and not section and not in_block:
            result += ["::", ""]
            in_block = True
        verbatim = in_block or section.startswith("Example")
        result.append(line if verbatim else OUTSIDE_CODE.sub(_escape, line))
    return result


def _escape(match: re.Match) -> str:
    return match[1] or "\\" + match[2]


def returns_as_field(lines: list[str]) -> list[str]:
    result, inside = [], False
    for line in lines:
        if line == "Returns:":
            inside = True
            result.append("")
        elif inside and line.startswith("    "):
            first = result[-1] == ""
            result.append((":returns: " if first else "    ") + line.strip())
        else:
            inside = False
            result.append(line)
    return result


def without_field_numbers(app, what, name, obj, skip, options):
    """Fields of a NamedTuple: the class's own docstring describes them, Python's only counts."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def with_names_of_types(app, what, name, obj, options, signature, returned):
    """Signatures with ArrayLike by its name."""
    whole = stringify_annotation(ArrayLike, "smart")
    short = "~numpy.typing.ArrayLike"
    return tuple(part and part.replace(whole, short) for part in (signature, returned))


def constructor_of_models(app, what, name, obj, options, signature, returned):
    """Signatures of models, whose base class on the Hub hides their arguments behind *args."""
    if what == "class" and signature == "(*args, **kwargs)":
        own = inspect.signature(obj.__init__)
        _self, *parameters = own.parameters.values()
        own = own.replace(
            parameters=[
                # a default that is no Python literal, such as a partial, cannot be parsed
                part.replace(default=...) if repr(part.default).startswith("functools") else part
                for part in parameters
            ],
            return_annotation=inspect.Signature.empty,
        )
        return stringify_signature(own, unqualified_typehints=True), None
    return None


def setup(app):
    app.connect("autodoc-process-signature", constructor_of_models, priority=400)
    app.connect("autodoc-process-signature", with_names_of_types)
    app.connect("autodoc-skip-member", without_field_numbers)
    # before napoleon, which listens with the default priority 500
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
