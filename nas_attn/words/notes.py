"""What a user is warned of, each note in a sentence."""

from __future__ import annotations

from nas_attn.errors import few, several
from nas_attn.notes import ImagesNotSaved, MoreFields, Note, OddAnnotations


def note_text(note: Note) -> str:
    """A note as a sentence that begins in lower case."""
    match note:
        case OddAnnotations():
            return _annotations_text(note)
        case MoreFields(dataset, fields, taken, others):
            usage = "the first two are used"
            if taken:
                usage = f"{few(taken)} are used, not {few(others)}"
            return (
                f"an item of {dataset} has {fields} fields: {usage}. To choose others, return"
                " (image, label)."
            )
        case ImagesNotSaved(folder, why):
            return f"prepared images cannot be saved in {folder} ({why})"


def _annotations_text(note: OddAnnotations) -> str:
    match note.kind:
        case "boxes_without_size":
            return f"ignored {note.number} boxes of '{note.path}' without width or height"
        case "repeated_boxes":
            return f"{note.number} boxes of '{note.path}' twice, counted once"
        case "repeated_images":
            return (
                f"{several(note.number, 'file')} of '{note.path}' twice, under two image ids"
                f" ({few(note.names)}): both stay on one side of a split that is made here; better"
                " give each file one id"
            )
