"""Sites found in any CNN-like model; attention put in and taken out, weights and names kept."""

from nas_attn.attachment.attaching import attach, attached_modules, detach
from nas_attn.attachment.counting import cost
from nas_attn.attachment.folding import fold_batchnorm
from nas_attn.attachment.sites import find_sites

__all__ = ["attach", "attached_modules", "cost", "detach", "find_sites", "fold_batchnorm"]
