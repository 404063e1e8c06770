"""The documentation site: ``python -m sphinx -W docs build/site`` builds it from the repository alone.

The one decision: **nothing is written twice.** Lessons are shown with the outputs that stand in their files, the reference
is what the docstrings say, the model card, the recipes and the changes are the repository's own files, and the panels of the
gallery are made by Pocket while the site is built. No page reaches for the network, neither in the build nor when it is read.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import commands
import live
import llms
import mathematics

import sdkit

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "sdkit"
author = "The sdkit-notebooks contributors"
version = release = sdkit.__version__
html_title = "sdkit"
root_doc = "index"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

# -- pages and lessons: what stands in them is shown, nothing is run ---------------------------------------------------
nb_execution_mode = "off"
nb_merge_streams = True
# the first that an output offers is shown; panels and progress bars are not stored in the lessons
nb_mime_priority_overrides = [("*", "text/html", 0), ("*", "image/gif", 1), ("*", "image/png", 2)]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 3
# lessons write "x=…" where a reader's own values go, which is no Python to colour
suppress_warnings = ["misc.highlighting_failure"]

# -- the reference: docstrings, with every name a link or an error -----------------------------------------------------
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True  # properties are documented where they stand; no second entry for each
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False
default_role = "code"  # a docstring's single backticks
maximum_signature_line_length = 88
nitpicky = True
# what others document: a link would need the network while the site is built
_OTHERS = (
    r"(torch|numpy|np|PIL|matplotlib|diffusers|traitlets|anywidget)\..*",
    r"(collections|concurrent|os|pathlib)\..*",
    r"(t\.|typing\.)?(Any|Callable|Mapping|Sequence|Iterable|Iterator|Literal)",
    r"DiffusionPipeline|NDArray|ArrayLike|Path|PathLike|Executor|Axes|Figure|(Image\.)?Image",
)
# names that signatures use for such types, and parts of objects that nobody makes by hand
_PARTS = (
    r"Floats|Guides|Half|OnFrame|OnStep|Picture|Place",
    r"sdkit\.attention\.(parts\.LayerMaps|layers\.Layer)",
    r"sdkit\.pipelines\.(placement\.Way|tokens\.Prompt)",
    r"sdkit\.(experiments\.(editing\.Exchange|riding\.Follower)|walks\.route\.Recipe|sweeps\.axes\.Axis)",
    r"sdkit\.widgets\.(studio\.Studio|explorer\.Explorer)",
)
nitpick_ignore_regex = [("py:.*", pattern) for pattern in (*_OTHERS, *_PARTS)]

# -- how it looks ------------------------------------------------------------------------------------------------------
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
html_favicon = html_logo = "_static/icon.svg"
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#6d3fc0",
        "color-brand-content": "#6d3fc0",
        "color-brand-visited": "#6d3fc0",
    },
    "dark_css_variables": {
        "color-brand-primary": "#b79cf2",
        "color-brand-content": "#b79cf2",
        "color-brand-visited": "#b79cf2",
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_math_renderer = "mathml"


def _lessons(_app: object) -> None:
    """Lay the notebooks beside the pages, as files of the site; links between them hold as they are."""
    folder = HERE / "lessons"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copyfile(path, folder / path.name)
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    names = "\n".join(path.stem for path in sorted(folder.glob("*.ipynb")))
    (folder / "index.md").write_text(
        f"{text}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n", encoding="utf-8"
    )


def setup(app: object) -> None:
    """Connect what is made for the site to the moments at which Sphinx wants it."""
    app.connect("builder-inited", _lessons)
    commands.setup(app)
    mathematics.setup(app)
    live.setup(app)
    llms.setup(app)
