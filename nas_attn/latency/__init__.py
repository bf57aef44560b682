"""Latency: paired sessions (`session`), the machine's fingerprint (`machine`), and a lock so that
only one process measures (`locks`).
"""
