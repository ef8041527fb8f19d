"""Configuration of Sphinx: ``make docs`` builds the site with warnings as errors."""

import re
import tomllib
from pathlib import Path

import sb3_maxent

ROOT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["sb3-maxent"]["repository"]

project = "sb3-maxent"
author = "The sb3-maxent developers"
copyright = author
version = release = sb3_maxent.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
# Of commands copy what is to be typed, without the prompt
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_rtd_theme"
html_title = f"sb3-maxent {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sourcelink = False


def link_files(app, docname, source):
    """Pages link to files of the repository outside docs/: on the site these are links to the repository"""
    up = "../" * (docname.count("/") + 1)  # pages of docs/api/ are one folder deeper
    source[0] = re.sub(rf"(?<!!)(\[[^\]]*\])\({re.escape(up)}([^.)\s][^)\s]*)\)", rf"\1({REPOSITORY}/blob/main/\2)", source[0])


def setup(app):
    app.connect("source-read", link_files)
