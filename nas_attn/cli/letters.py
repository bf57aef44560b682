"""Letters for terminals that do not have all of them."""

from __future__ import annotations

import codecs
from collections.abc import Callable

# name of the error handler of a stream
PLAIN_HANDLER = "nas_attn.plain"
_PLAIN = {
    "−": "-",
    "–": "-",
    "─": "-",
    "━": "=",
    "×": "x",
    "±": "+-",
    "→": "->",
    "▣": "#",
    "…": "...",
    "·": "-",
    "\N{NO-BREAK SPACE}": " ",
}
"""Letters of ours and what is nearest to them in ASCII."""


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    """The nearest letters in ASCII for those that a stream does not have; else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    if all(letter in _PLAIN for letter in letters):
        return "".join(_PLAIN[letter] for letter in letters), error.end
    first = _PLAIN.get(letters[0])
    if first is not None:
        return first, error.start + 1
    escape: Callable[[UnicodeError], tuple[str | bytes, int]]
    escape = codecs.lookup_error("backslashreplace")
    one = UnicodeEncodeError(
        error.encoding, error.object, error.start, error.start + 1, error.reason
    )
    return escape(one)


# a stream knows it as `errors=PLAIN_HANDLER`
codecs.register_error(PLAIN_HANDLER, _nearest)
