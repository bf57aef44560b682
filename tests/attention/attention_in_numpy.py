"""Every attention module once more, in plain NumPy from its equation, sharing no code with the package.

`REFERENCES[name](x, p, k, train)`: input `(N, C, H, W)` float64, parameters and buffers by name, canonical knobs and
`identity`, batch statistics or running ones -> output.
"""

from __future__ import annotations

from collections.abc import Callable
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


def conv(
    x: Array, w: Array, b: Array | None = None, dilation: int = 1, groups: int = 1, mode: str = "constant"
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
                window = padded[:, first : first + per_group, i * dilation :, j * dilation :][:, :, :height, :width]
                y[:, o] += np.einsum("nchw,c->nhw", window, w[o, :, i, j])
    return y if b is None else y + b[:, None, None]


def conv_of(x: Array, p: Params, name: str, **how: Any) -> Array:
    return conv(x, p[f"{name}.weight"], p.get(f"{name}.bias"), **how)


def batch_norm(x: Array, p: Params, name: str, train: bool) -> Array:
    """Over all but axis 1, with running statistics where there is one value or `train` is off."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = tuple(-1 if i == 1 else 1 for i in range(x.ndim))
    m, v = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if train and x.size > x.shape[1]:
        m, v = x.mean(axes), x.var(axes)
    z = (x - m.reshape(shape)) / np.sqrt(v.reshape(shape) + 1e-5)
    return z * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)


def group_norm(x: Array, groups: int, p: Params, name: str) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    z = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return z.reshape(x.shape) * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)


def blended(x: Array, y: Array, p: Params) -> Array:
    return x + p["blend"] * (y - x) if "blend" in p else y


def se(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = linear(relu(linear(mean(x), p, "reduce")), p, "expand")
    return x * gate(z, k)[:, :, None, None]


def eca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    w = p["conv.weight"][0, 0]
    reach = len(w) // 2
    padded = np.pad(mean(x), ((0, 0), (reach, reach)), mode="wrap" if k["padding"] == "circular" else "constant")
    z = np.stack([padded[:, c : c + len(w)] @ w for c in range(x.shape[1])], 1)
    return x * gate(z, k)[:, :, None, None]


def ese(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    a = np.clip(linear(mean(x), p, "fc") + 3, 0, 6) / 6
    return x * a[:, :, None, None] * (2 if k["identity"] else 1)


def nam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    w = np.abs(p["norm.weight"]) / np.abs(p["norm.weight"]).sum()
    return blended(x, x * s(batch_norm(x, p, "norm", train) * w[:, None, None]), p)


def srm(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    count = x.shape[2] * x.shape[3]
    variance = x.var((2, 3)) * count / max(count - 1, 1)
    z = p["style"][:, 0] * mean(x) + p["style"][:, 1] * np.sqrt(variance + 1e-5)
    return x * gate(batch_norm(z, p, "norm", train), k)[:, :, None, None]


def gct(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    if k["norm"] == "l2":
        e = np.sqrt((x**2).sum((2, 3)) + 1e-5) * p["alpha"]
        size = np.sqrt((e**2).mean(1, keepdims=True) + 1e-5)
    else:
        e = np.abs(x).sum((2, 3)) * p["alpha"]
        size = np.abs(e).mean(1, keepdims=True) + 1e-5
    return x * (1 + np.tanh(p["gamma"] * e / size + p["beta"]))[:, :, None, None]


def gc(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    context = mean(x)
    if k["pooling"] == "attention":
        weight = softmax(conv_of(x, p, "mask").reshape(len(x), -1))
        context = np.einsum("ncp,np->nc", x.reshape(*x.shape[:2], -1), weight)
    h = linear(context, p, "reduce")
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5) * p["norm.weight"] + p["norm.bias"]
    z = linear(relu(h), p, "expand")[:, :, None, None]
    return x + z if k["fusion"] == "add" else x * gate(z, k)


def cbam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    if k["gates"] != "spatial":
        z = sum(linear(relu(linear(v, p, "channel.reduce")), p, "channel.expand") for v in (mean(x), x.max((2, 3))))
        x = x * gate(np.asarray(z), k)[:, :, None, None]
    if k["gates"] != "channel":
        z = conv_of(np.stack((x.max(1), x.mean(1)), 1), p, "spatial.conv")
        x = x * gate(batch_norm(z, p, "spatial.norm", train) if k["spatial_norm"] else z, k)
    return x


def bam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = relu(batch_norm(linear(mean(x), p, "channel.0"), p, "channel.1", train))
    c = linear(c, p, "channel.3")
    m = relu(batch_norm(conv_of(x, p, "spatial.0"), p, "spatial.1", train))
    for i in (3, 6):
        m = conv_of(m, p, f"spatial.{i}", dilation=k["dilation"])
        m = relu(batch_norm(m, p, f"spatial.{i + 1}", train))
    m = conv_of(m, p, "spatial.9")
    if k["combine"] == "sum":
        z = batch_norm(c, p, "channel.4", train)[:, :, None, None] + batch_norm(m, p, "spatial.10", train)
    else:
        z = c[:, :, None, None] * m
    return x * (gate(z, k) + (0 if k["identity"] else 1))


def gam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = conv_of(relu(conv_of(x, p, "channel.0")), p, "channel.2")
    x = x * (gate(z, k) if k["channel_sigmoid"] else z)
    how = {"groups": k["groups"], "mode": "edge" if k["padding"] == "replicate" else "constant"}
    z = relu(batch_norm(conv_of(x, p, "spatial.0", **how), p, "spatial.1", train))
    a = gate(batch_norm(conv_of(z, p, "spatial.3", **how), p, "spatial.4", train), k)
    if k["shuffle"]:
        n, c, height, width = a.shape
        a = a.reshape(n, k["groups"], c // k["groups"], height, width).swapaxes(1, 2).reshape(a.shape)
    return x * a


def simam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    d = (x - x.mean((2, 3), keepdims=True)) ** 2
    count = x.shape[2] * x.shape[3]
    v = d.sum((2, 3), keepdims=True) / (max(count - 1, 1) if k["unbiased"] else count)
    return blended(x, x * s(d / (4 * (v + k["e_lambda"])) + 0.5), p)


def sge(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    g = x.reshape(n * k["groups"], c // k["groups"], height, width)
    t = (g * g.mean((2, 3), keepdims=True)).sum(1).reshape(n * k["groups"], -1)
    t = t - t.mean(1, keepdims=True)
    t = t / (np.sqrt((t**2).sum(1, keepdims=True) / max(t.shape[1] - 1, 1)) + 1e-5)
    z = t.reshape(n, k["groups"], height, width) * p["weight"][:, None, None] + p["bias"][:, None, None]
    return (g * gate(z, k).reshape(n * k["groups"], 1, height, width)).reshape(x.shape)


def scse(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    k = {**k, "identity": k["identity"] and k["combine"] == "max"}
    c = x * gate(linear(relu(linear(mean(x), p, "reduce")), p, "expand"), k)[:, :, None, None]
    m = x * gate(conv_of(x, p, "spatial"), k)
    return np.maximum(c, m) if k["combine"] == "max" else c + m


def triplet(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    parts = []
    for name, order in (("gate_cw", (0, 2, 1, 3)), ("gate_ch", (0, 3, 2, 1)), ("gate_hw", (0, 1, 2, 3))):
        if name == "gate_hw" and not k["spatial"]:
            continue
        turned = x.transpose(order)
        z = conv_of(np.stack((turned.max(1), turned.mean(1)), 1), p, f"{name}.conv")
        parts.append((turned * gate(batch_norm(z, p, f"{name}.norm", train), k)).transpose(order))
    return np.mean(parts, 0)


def ema(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    g = x.reshape(n * k["groups"], c // k["groups"], height, width)
    strips = np.concatenate((g.mean(3), g.mean(2)), 2)[..., None]
    a = s(conv(strips, p["strips.weight"][..., None], p["strips.bias"]))[..., 0]
    u = group_norm(g * a[:, :, :height, None] * a[:, :, None, height:], c // k["groups"], p, "norm")
    v = conv_of(g, p, "conv")
    z = sum(np.einsum("bc,bchw->bhw", softmax(mean(one)), other) for one, other in ((u, v), (v, u)))
    return blended(x, (g * s(np.asarray(z))[:, None]).reshape(x.shape), p)


def lska(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    a = conv_of(conv_of(x, p, "rows", groups=c), p, "columns", groups=c)
    dilation = 2 if k["kernel_size"] < 23 else 3
    for name in ("far_rows", "far_columns"):
        a = conv_of(a, p, name, groups=c, dilation=dilation)
    return x * conv_of(a, p, "mix")


def coord(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    height = x.shape[2]
    f = conv_of(np.concatenate((x.mean(3), x.mean(2)), 2)[..., None], p, "reduce")
    f = batch_norm(f, p, "norm", train)
    f = f * np.clip(f + 3, 0, 6) / 6
    a_h = gate(conv_of(f[:, :, :height], p, "expand_h"), k)
    a_w = gate(conv_of(f[:, :, height:], p, "expand_w"), k).swapaxes(2, 3)
    return x * a_h * a_w


def ela(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    y = x
    for name, axis in (("h", 3), ("w", 2)):
        layer = "h" if k["shared"] else name
        z = conv(x.mean(axis)[..., None], p[f"conv_{layer}.weight"][..., None], groups=k["groups"])[..., 0]
        z = group_norm(z, k["norm_groups"], p, f"norm_{layer}")
        y = y * np.expand_dims(gate(z * s(z) if k["activation"] == "silu" else z, k), axis)
    return y


def cells(x: Array, side: int) -> Array:
    """Means over cells of this side; those at the border may be smaller."""
    rows, columns = range(0, x.shape[2], side), range(0, x.shape[3], side)
    return np.stack([np.stack([x[:, :, i : i + side, j : j + side].mean((2, 3)) for j in columns], 2) for i in rows], 2)


def qkv(x: Array, p: Params, side: int) -> tuple[Array, Array, Array]:
    q, k, v = np.split(p["qkv.weight"], 3)
    small = cells(x, side)
    return conv(x, q), conv(small, k), conv(small, v)


def sdpa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    q, key, v = (t.reshape(*t.shape[:2], -1) for t in qkv(x, p, k["downsample"]))
    a = softmax(np.einsum("ndp,ndk->npk", q, key) / np.sqrt(q.shape[1]))
    return x + conv_of(np.einsum("npk,ndk->ndp", a, v).reshape(len(x), -1, *x.shape[2:]), p, "out")


def mhsa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    side, y = k["downsample"], np.zeros_like(x)
    q, key, v = qkv(x, p, side)
    rows, columns = key.shape[2:]
    d = c // k["heads"]
    for head in range(k["heads"]):
        mine = slice(head * d, head * d + d)
        for i in range(height):
            for j in range(width):
                look = q[:, mine, i, j]
                z = np.einsum("nd,ndhw->nhw", look, key[:, mine]) / np.sqrt(d)
                if k["position"] != "none":
                    relative = k["position"] == "relative"
                    r = p["row_table"][np.arange(rows) - (i // side - rows + 1 if relative else 0)]
                    t = p["column_table"][np.arange(columns) - (j // side - columns + 1 if relative else 0)]
                    z = z + (look @ r.T)[:, :, None] + (look @ t.T)[:, None]
                a = softmax(z.reshape(n, -1)).reshape(z.shape)
                y[:, mine, i, j] = np.einsum("nhw,ndhw->nd", a, v[:, mine])
    return x + conv_of(y, p, "out") if k["residual"] else blended(x, y, p)


REFERENCES: dict[str, Callable[[Array, Params, Knobs, bool], Array]] = {
    f.__name__: f
    for f in (
        se,
        eca,
        ese,
        nam,
        srm,
        gct,
        gc,
        cbam,
        bam,
        gam,
        simam,
        sge,
        scse,
        triplet,
        ema,
        lska,
        coord,
        ela,
        sdpa,
        mhsa,
    )
}
