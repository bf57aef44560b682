"""Advice without training: what published figures say of attention in a network, and what it costs
here. The files make facts; `nas_attn.answer.advice.advice_text` says them.
"""
