# SPDX-License-Identifier: GPL-2.0-only
"""How Sphinx builds the documentation; see "make html"."""

import pathlib
import re
import subprocess

# The version is in one place, for the programs and for the documentation.
_top = pathlib.Path(__file__).resolve().parent.parent
release = re.search(r'^version = "(.*)"$', (_top / "Cargo.toml").read_text(), re.MULTILINE).group(1)
version = release

project = "daxfs"
author = "The daxfs developers"
copyright = author  # noqa: A001 (the name is Sphinx's)

highlight_language = "none"

html_theme = "furo"
html_title = "daxfs"
html_static_path = ["static"]
html_css_files = ["daxfs.css"]
html_show_copyright = False
html_copy_source = False

man_pages = [("daxfs.5", "daxfs", "read-only filesystem for memory", [], 5)]

# ---- references ------------------------------------------------------------------------------------

# Text that refers to a page by its file name, or to a page of the manual, is readable without Sphinx. Here it becomes a
# link.
_pages = re.compile(r"(?<![\w./`*-])(?:([a-z-]+)\.rst|([a-z.-]+\.daxfs|mkdaxfs|daxfs[a-z-]*)\((?:5|8)\)|daxfs\.5\.rst)(?![\w`])")
_manual = _top / "build/man"


def _link(match, pages, manual):
    page = match.group(1) or "daxfs.5"
    text = match.group(0)
    if text.endswith("(8)"):
        name = text.replace("(8)", ".8")
        return f"`{text} <manual/{name}.html>`__" if name in manual else text
    text = "daxfs(5)" if page == "daxfs.5" else page
    return f":doc:`{text} <{page}>`" if page in pages else match.group(0)


def _link_pages(app, docname, source):
    """Replace names of pages in paragraphs and tables, but not in literal blocks."""
    manual = {page.name for page in _manual.glob("*.8")} if app.builder.format == "html" else ()
    lines = []
    literal = None  # The indentation of the paragraph that introduces a literal block.
    for line in source[0].split("\n"):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None and line.strip() and docname != "daxfs.5" and not line.startswith(".."):
            lines.append(_pages.sub(lambda match: _link(match, app.project.docnames, manual), line))
        else:
            lines.append(line)
        if literal is None and line.rstrip().endswith("::") and not line.lstrip().startswith(".. "):
            literal = indent
    def role(match):
        page = f"{match[1]}.8"
        return f"`{match[1]}(8) <manual/{page}.html>`__" if page in manual else match[0]

    source[0] = re.sub(r":manpage:`([a-z.-]+)\(8\)`", role, "\n".join(lines))


# ---- pages of the manual ---------------------------------------------------------------------------

_references = re.compile(r"(?:<b>)?([a-z.-]+)(?:</b>)?\((5|8)\)")


def _refer(match):
    """Return a link to the page of the manual that the text names, if it is one of daxfs."""
    name, section = match.groups()
    if not (_manual / f"{name}.{section}").exists():
        return match.group(0)
    target = f"{name}.8.html" if section == "8" else "../daxfs.5.html"
    return f'<a href="{target}">{match.group(0)}</a>'


def _manual_pages(app):
    """Yield the pages that "make manual" has written, for Sphinx to put its frame around them."""
    for path in sorted(_manual.glob("*.8")):
        page = path
        while (text := page.read_text()).startswith(".so "):
            page = _manual / pathlib.Path(text.split()[1]).name
        body = subprocess.run(["mandoc", "-Thtml", "-Ofragment", page], check=True, capture_output=True, text=True).stdout
        body = _references.sub(_refer, body.replace("<h1", "<h2").replace("</h1>", "</h2>"))
        title = f"{path.stem}(8)"
        yield f"manual/{path.name}", {"title": title, "body": f"<h1>{title}</h1>{body}"}, "page.html"


def _repair_theme(app, exception):
    """Add what Debian's furo lacks: the dark colors for browsers that prefer these, and the import of Gumshoe, which is not
    a module. Gumshoe marks the current section in the contents of a page."""
    if app.builder.format == "html" and exception is None:
        script = pathlib.Path(app.outdir) / "_static/scripts/furo.js"
        script.write_text(script.read_text().replace("import * as Gumshoe from", "import"))
        style = pathlib.Path(app.outdir) / "_static/styles/furo.css"
        for colors in re.findall(r'body\[data-theme="dark"\] {[^}]*}', style.read_text()):
            with style.open("a") as file:
                colors = colors.replace('"dark"', '"auto"')
                file.write(f"@media (prefers-color-scheme: dark) {{ @media not print {{ {colors} }} }}\n")


def setup(app):
    """Called by Sphinx."""
    app.connect("build-finished", _repair_theme)
    app.connect("source-read", _link_pages)
    app.connect("html-collect-pages", _manual_pages)
