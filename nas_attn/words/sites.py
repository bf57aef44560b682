"""What is no site of a network, and which sites have a surprising effect."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.space.placement import SiteNote

# most names that are listed; the others are counted
SHOWN_NAMES = 3


def site_note_text(note: SiteNote) -> str:
    """A note as a sentence."""
    modules = _listed(note.modules)
    match note.kind:
        case "merged":
            return (
                "not sites, since the network's own reparameterization removes or changes them:"
                f" {modules}; latency is measured after it"
            )
        case "outputs_only":
            return (
                f"not sites, since they only lead to outputs: {modules}; heads=True lists them as"
                " head1 …"
            )
        case "several_shapes":
            shapes = _listed(["x".join(map(str, shape)) for shape in note.shapes])
            return (
                f"{modules} is not a site: it runs on maps of several shapes ({shapes}), and"
                " attention is built for one"
            )
        case "several_places":
            return (
                f"{modules} is not a site: the network calls it at {note.places} places, and"
                " attention would go to all of them"
            )
        case "unused":
            return f"not sites, since the network's output does not depend on them: {modules}"
        case "frozen":
            return (
                "not sites, since they are frozen and no trained layer uses their result:"
                f" {modules}"
            )
        case "single_layers":
            return (
                f"not sites, since they have no blocks, only single layers: {modules}; name modules"
                " in them as custom sites"
            )
        case "repeated":
            return (
                "the network runs these more than once for an image, so attention there runs as"
                f" often: {modules}"
            )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_NAMES])} and {more} more"
