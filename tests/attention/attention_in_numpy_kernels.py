"""The modules of the family `kernel` in plain NumPy, as `attention_in_numpy.py`, which takes them up."""

from __future__ import annotations

import math

import numpy as np
from numpy_layers import (
    Array,
    Knobs,
    Params,
    batch_norm,
    blended,
    conv,
    conv_of,
    gate,
    linear,
    mean,
    relu,
    s,
    softmax,
)


def lska(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    a = conv_of(conv_of(x, p, "rows", groups=c), p, "columns", groups=c)
    dilation = 2 if k["kernel_size"] < 23 else 3
    for name in ("far_rows", "far_columns"):
        a = conv_of(a, p, name, groups=c, dilation=dilation)
    return x * conv_of(a, p, "mix")


def lsk(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    near = conv_of(x, p, "near", groups=c)
    far = conv_of(near, p, "far", groups=c, dilation=3)
    u, v = conv_of(near, p, "reduce_near"), conv_of(far, p, "reduce_far")
    both = np.concatenate((u, v), 1)
    a = s(conv_of(np.stack((both.mean(1), both.max(1)), 1), p, "select"))
    return x * conv_of(u * a[:, 0:1] + v * a[:, 1:2], p, "expand")


def sk(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    u = []
    for i in range(k["branches"]):
        z = conv_of(x, p, f"branches.{i}.0", groups=k["groups"], dilation=i + 1 if k["dilated"] else 1)
        u.append(relu(batch_norm(z, p, f"branches.{i}.1", train)))
    z = relu(batch_norm(linear(mean(np.sum(u, 0)), p, "reduce"), p, "norm", train))
    a = softmax(linear(z, p, "expand").reshape(len(x), len(u), -1), 1)
    return blended(x, np.asarray(sum(a[:, i, :, None, None] * u[i] for i in range(len(u)))), p)


def caa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c, side = x.shape[1], k["pool_size"]
    z = conv(x, np.full((c, 1, side, side), 1 / side**2), groups=c)
    z = mixed(z, p, "first", k, train)
    z = conv_of(conv_of(z, p, "rows", groups=c), p, "columns", groups=c)
    return x * gate(mixed(z, p, "last", k, train), k)


def mixed(x: Array, p: Params, name: str, k: Knobs, train: bool) -> Array:
    z = conv_of(x, p, f"{name}.0")
    if k["norm"]:
        z = batch_norm(z, p, f"{name}.1", train, eps=1e-3)
        z = z * s(z)
    return z


def gelu(z: Array) -> Array:
    return z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2


def cpca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c, u = x.shape[1], x
    if k["projected"]:
        u = gelu(conv_of(x, p, "mix"))
    one, other = (linear(relu(linear(v, p, "reduce")), p, "expand") for v in (mean(u), u.max((2, 3))))
    if k["channel_gate"] == "sum":
        a = gate(one + other, {"identity": k["identity"] and not k["projected"]})
    else:
        a = s(one) + s(other)
    u = u * a[:, :, None, None]
    d = conv_of(u, p, "near", groups=c)
    z = d
    for i in range(3):
        z = z + conv_of(conv_of(d, p, f"strips.{i}.0", groups=c), p, f"strips.{i}.1", groups=c)
    y = u * conv_of(z, p, "mix")
    return blended(x, conv_of(y, p, "mix") if k["projected"] else y, p)


def dwconv(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    return x + batch_norm(conv_of(relu(x), p, "conv", groups=x.shape[1]), p, "norm", train)


def conv1x1(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    return x + batch_norm(conv_of(relu(x), p, "conv"), p, "norm", train)


KERNELS = (lska, lsk, sk, caa, cpca, dwconv)
