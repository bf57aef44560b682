"""Layers in plain NumPy, from which `attention_in_numpy` reads the modules once more."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Params = dict[str, Array]
Knobs = dict[str, Any]


def s(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def gate(z: Array, k: Knobs) -> Array:
    """The sigmoid, or twice it in the identity form."""
    return s(z) * (2 if k["identity"] else 1)


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def softmax(z: Array, axis: int = -1) -> Array:
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def mean(x: Array) -> Array:
    return x.mean((2, 3))


def linear(x: Array, p: Params, name: str) -> Array:
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", np.zeros(1))


def convolve(
    x: Array,
    w: Array,
    b: Array | None = None,
    dilation: int = 1,
    groups: int = 1,
    mode: str = "constant",
) -> Array:
    """Cross-correlation that keeps the map's size."""
    n, _, height, width = x.shape
    out, per_group, rows, columns = w.shape
    reach = (rows // 2 * dilation, columns // 2 * dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (reach[0], reach[0]), (reach[1], reach[1])), mode=mode)  # type: ignore[call-overload]
    y = np.zeros((n, out, height, width))
    for o in range(out):
        first = o // (out // groups) * per_group
        for i in range(rows):
            for j in range(columns):
                window = padded[:, first : first + per_group, i * dilation :, j * dilation :][
                    :, :, :height, :width
                ]
                y[:, o] += np.einsum("nchw,c->nhw", window, w[o, :, i, j])
    return y if b is None else y + b[:, None, None]


def conv_of(x: Array, p: Params, name: str, **how: Any) -> Array:
    return convolve(x, p[f"{name}.weight"], p.get(f"{name}.bias"), **how)


def batch_norm(x: Array, p: Params, name: str, train: bool, eps: float = 1e-5) -> Array:
    """Over all but axis 1, with running statistics where there is one value or `train` is off."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = tuple(-1 if i == 1 else 1 for i in range(x.ndim))
    m, v = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if train and x.size > x.shape[1]:
        m, v = x.mean(axes), x.var(axes)
    z = (x - m.reshape(shape)) / np.sqrt(v.reshape(shape) + eps)
    return z * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)


def group_norm(x: Array, groups: int, p: Params, name: str) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    z = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return z.reshape(x.shape) * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(
        shape
    )


def layer_norm(x: Array, p: Params, name: str) -> Array:
    """Over the last axis."""
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return z * p[f"{name}.weight"] + p[f"{name}.bias"]


def blended(x: Array, y: Array, p: Params) -> Array:
    return x + p["blend"] * (y - x) if "blend" in p else y
