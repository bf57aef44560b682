"""A terminal that shows texts as they are, whoever wrote them: nothing in a database moves the cursor or sets a title."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from nas_attn.errors import printable


class SafeConsole(Console):
    """Prints letters that a terminal would obey as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))
