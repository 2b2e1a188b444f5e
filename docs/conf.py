"""The site: ``python -m sphinx -W -b html docs docs/_build`` (``python -m pip install '.[docs]'``)."""

import re

from sphinx.domains.python import PyObject

import covertreex

project = "covertreex"
author = "The covertreex founders"
copyright = "the covertreex founders"  # the name that Sphinx wants
release = version = covertreex.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# Docstrings are NumPy-style; `name` in them is a link where there is something of that name, and plain code elsewhere.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

myst_heading_anchors = 3
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "monokai"

html_theme = "furo"
html_title = f"covertreex {release}"
html_static_path = ["_static"]
html_css_files = ["covertreex.css"]
html_copy_source = False

for field in PyObject.doc_field_types:
    if field.name == "variable":
        field.label = "Attributes"  # what the docstrings call them


def split_attributes(app, what, owner, obj, options, lines):
    """Give each of the attributes ``a, b : type`` a line of its own, as napoleon does with parameters but not these."""
    section, out = "", []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            section = line
        match = re.fullmatch(r"(\w+(?:, \w+)+)( : .*)?", line)
        if match and section == "Attributes":
            out += [name + (match[2] or "") for name in match[1].split(", ")]  # what is said of all: below the last
        else:
            out.append(line)
    lines[:] = out


def setup(app):
    app.connect("autodoc-process-docstring", split_attributes, priority=400)  # napoleon comes at 500
