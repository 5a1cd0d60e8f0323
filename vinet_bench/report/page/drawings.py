"""Figures inside the page: SVG that takes the page's colours."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure


def svg(figure: Figure) -> str:
    """The figure as an SVG element; black becomes the page's text colour, white its ground."""
    buffer = io.StringIO()
    unsigned = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vinet-bench"}):
        figure.savefig(buffer, format="svg", metadata=unsigned, bbox_inches="tight")
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("#000000", "currentColor")
    text = text.replace("#ffffff", "none")
    # Several figures on one page would share these names; nothing refers to them.
    return re.sub(r'<g id="[^"]*"', "<g", text)
