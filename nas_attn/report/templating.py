"""What all pages share: the templates' environment, and texts that become HTML."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nas_attn.answer.answer_text import is_placement
from nas_attn.system.wrapping import glued

# plotly's bundle of the cartesian traces (npm: plotly.js-cartesian-dist-min)
PLOTLY = "plotly-cartesian.min.js.gz"
# Between the parts of a placement, but not between a module's settings
BETWEEN_PARTS = re.compile(r"(?<!,) ")


@cache
def templates() -> Environment:
    """The environment of `nas_attn/report/templates`."""
    made = Environment(
        loader=PackageLoader("nas_attn.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.tests["placement"] = is_placement
    made.filters |= {"code": code, "glued": glued, "when": when, "notation": notation}
    return made


def code(sentence: str) -> Markup:
    """A sentence, with text between backquotes as code."""
    written = []
    for at, part in enumerate(sentence.split("`")):
        if at % 2:
            written.append(Markup("<code>{}</code>").format(part))
        else:
            written.append(escape(glued(part)))
    return Markup("").join(written)


def notation(placement: str) -> Markup:
    """A placement whose parts are broken only where one does not fit a line."""
    parts = [
        Markup('<span class="part">{}</span>').format(p) for p in BETWEEN_PARTS.split(placement)
    ]
    return Markup(" ").join(parts)


def when(seconds: float) -> str:
    """Unix seconds as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def trusted(file: str) -> Markup:
    """Our style sheet or script, not escaped."""
    return Markup(resources.files("nas_attn.report").joinpath("templates", file).read_text("utf-8"))


@cache
def plotly_script() -> Markup:
    """The script that draws the figures in a browser."""
    packed = resources.files("nas_attn.report").joinpath("assets", PLOTLY).read_bytes()
    return Markup(gzip.decompress(packed).decode())
