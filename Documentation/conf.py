# SPDX-License-Identifier: GPL-2.0-only
"""How Sphinx builds the documentation; see "make html"."""

import pathlib
import re

# The version is in one place, for the programs and for the documentation.
_manifest = pathlib.Path(__file__).resolve().parent.parent / "tools/Cargo.toml"
release = re.search(r'^version = "(.*)"$', _manifest.read_text(), re.MULTILINE).group(1)
version = release

project = "daxfs"
author = "The daxfs developers"
copyright = author  # noqa: A001 (the name is Sphinx's)

# A page includes it.
exclude_patterns = ["source-matrix.rst"]
highlight_language = "none"

html_theme = "alabaster"
html_theme_options = {
    "description": "A read-only filesystem for memory",
    "page_width": "1100px",
    "sidebar_width": "230px",
}
html_show_copyright = False
html_copy_source = False

man_pages = [("daxfs.5", "daxfs", "read-only filesystem for memory", [], 5)]

# ---- references ------------------------------------------------------------------------------------

# Text that refers to a page by its file name, or to daxfs(5), is readable without Sphinx. Here it becomes a link.
_pages = re.compile(r"(?<![\w./`*-])(?:([a-z-]+)\.rst|daxfs\(5\)|daxfs\.5\.rst)(?![\w`])")


def _link(match, pages):
    page = match.group(1) or "daxfs.5"
    text = "daxfs(5)" if page == "daxfs.5" else page
    return f":doc:`{text} <{page}>`" if page in pages else match.group(0)


def _link_pages(app, docname, source):
    """Replace names of pages in paragraphs and tables, but not in literal blocks."""
    lines = []
    literal = None  # The indentation of the paragraph that introduces a literal block.
    for line in source[0].split("\n"):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None and line.strip() and docname != "daxfs.5" and not line.startswith(".."):
            lines.append(_pages.sub(lambda match: _link(match, app.project.docnames), line))
        else:
            lines.append(line)
        if literal is None and line.rstrip().endswith("::") and not line.lstrip().startswith(".. "):
            literal = indent
    source[0] = "\n".join(lines)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _link_pages)
