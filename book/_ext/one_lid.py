"""Sphinx extension: the code of an exercise's solution under the same lid as its text.

A cell with the tag hide-cell that stands right before a dropdown moves into it.
"""

from docutils import nodes


def under_the_lid(app, doctree):
    for lid in list(doctree.findall(nodes.container)):
        if lid.get("design_component") != "dropdown":
            continue
        cell = _before(lid)
        while cell is not None and "tag_hide-cell" in cell.get("classes", []):
            cell.attributes.pop("hide_mode", None)
            above = _before(cell)
            cell.parent.remove(cell)
            title = next((i for i, n in enumerate(lid) if isinstance(n, nodes.rubric)), -1)
            lid.insert(title + 1, cell)
            cell = above


def _before(node):
    """The sibling before a node, comments left out."""
    siblings = node.parent.children
    for other in reversed(siblings[: siblings.index(node)]):
        if not isinstance(other, nodes.comment):
            return other
    return None


def setup(app):
    app.connect("doctree-read", under_the_lid)
    return {"parallel_read_safe": True}
