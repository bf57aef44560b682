"""Placements as text: one line that a person can type, read in a plot and paste back.

    stage1=none stage2=se(reduction=8) stage3@stage=ela(variant=B)
    stage4.block2@block=cbam(reduction=16)

`SITE[@POSITION]=CHOICE`, separated by blanks; `none` alone is the bare backbone. A site may be a
glob (`*=eca`). `backbone=resnet8(width=12)` is another backbone: alone it is bare, and the sites of
`backbone=resnet8(width=12) stage2=eca` are its own.
"""

import re
from functools import lru_cache

from nas_attn.attention.choice import Choice, Knob
from nas_attn.errors import PlacementError, did_you_mean
from nas_attn.space.placement import POSITIONS, Assignment, Placement

_SITE = r"(?P<site>[A-Za-z_*?\[][\w.*?\[\]-]*)(?:@(?P<position>\w+))?"
_CHOICE = r"(?P<type>[A-Za-z_][\w.]*(?::[A-Za-z_][\w./-]*)?)(?:\((?P<knobs>[^()]*)\))?"
_ASSIGNMENT = re.compile(rf"{_SITE}\s*=\s*{_CHOICE}(?=\s|,|$)")
_INT = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][\w.+-]*")


def parse(text: str) -> Placement:
    """A placement from notation; `parse(str(p)) == p`. PlacementError names the unreadable part and
    the expected form.
    """
    assignments: list[Assignment] = []
    position = _skip_blanks(text, 0)
    if text[position:].strip() in ("", "none"):
        return Placement()
    while position < len(text):
        match = _ASSIGNMENT.match(text, position)
        if match is None:
            raise PlacementError(
                f"placement: cannot read '{text[position : position + 40].strip()}': expected"
                " SITE[@POSITION]=TYPE(knob=value), like stage2=se(reduction=8), or"
                " backbone=resnet8(width=10)"
            )
        site = match["site"]
        at = match["position"]
        if at is not None and at not in POSITIONS:
            raise PlacementError(
                f"unknown position '{at}' at {site}: {did_you_mean(at, POSITIONS)}"
            )
        assignments.append(Assignment(site, _choice(match["type"], match["knobs"], site), at))
        position = _skip_blanks(text, match.end())
    return Placement(tuple(assignments))


def parse_choice(text: str, where: str) -> Choice:
    """A name and its settings, `resnet8(width=10)`. Raises PlacementError, which names the
    place.
    """
    match = re.fullmatch(_CHOICE, text)
    if match is None:
        raise PlacementError(
            f"cannot read '{text}' at {where}: expected NAME(setting=value), like resnet8(width=10)"
        )
    return _choice(match["type"], match["knobs"], where)


# thousands of placements have few different choices
@lru_cache(maxsize=4096)
def _choice(type: str, inside: str | None, where: str) -> Choice:
    knobs: dict[str, Knob] = {}
    for part in filter(None, (p.strip() for p in (inside or "").split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name.isidentifier():
            raise PlacementError(
                f"cannot read the knob '{part}' of {type} at {where}: expected name=value"
            )
        if name in knobs:
            raise PlacementError(f"knob '{name}' of {type} at {where} is given twice")
        knobs[name] = _knob(value, name, where)
    if type in ("none", "original") and knobs:
        raise PlacementError(f"'{type}' at {where} takes no knobs, not ({inside})")
    return Choice(type, tuple(knobs.items()))


def _knob(text: str, name: str, where: str) -> Knob:
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _WORD.fullmatch(text):
        return text
    raise PlacementError(
        f"cannot read the value '{text}' of knob '{name}' at {where}: expected a number, true,"
        " false or a word"
    )


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and (text[position].isspace() or text[position] in ",;"):
        position += 1
    return position
