"""The site: ``python -m sphinx -W -b html docs docs/_build`` (``pip install 'covertreex[docs]'``)."""

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
