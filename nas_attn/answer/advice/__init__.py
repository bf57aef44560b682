"""Advice without training: what published figures say of attention in a network, and what it costs
here. Facts; `nas_attn.words.advice` says them.
"""
