"""Every attention module once more, in plain NumPy from its equation, sharing no code with the
package.

The function with a module's name is its reading: `se(x, p, k, train)`, input `(N, C, H, W)`
float64, parameters and buffers by name, canonical knobs and `identity`, batch statistics or
running ones -> output.
"""

from __future__ import annotations

import numpy as np
from numpy_layers import (
    Array,
    Knobs,
    Params,
    batch_norm,
    blended,
    conv_of,
    convolve,
    gate,
    group_norm,
    layer_norm,
    linear,
    mean,
    relu,
    s,
    softmax,
)


def se(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = linear(relu(linear(mean(x), p, "reduce")), p, "expand")
    return x * gate(z, k)[:, :, None, None]


def eca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = along(mean(x), p["conv.weight"][0, 0])
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
    e = np.sqrt((x**2).sum((2, 3)) + 1e-5) * p["alpha"]
    size = np.sqrt((e**2).mean(1, keepdims=True) + 1e-5)
    return x * (1 + np.tanh(p["gamma"] * e / size + p["beta"]))[:, :, None, None]


ORDER = ("00600114513000324635526553342261", "01052020060463526333511242113053")
"""Of the authors' code, the best alone first: along H and along W."""


def fca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    height, width = max(7, x.shape[2]), max(7, x.shape[3])
    on_grid = adaptive_mean(x, height, width)
    f = np.zeros(x.shape[:2])
    for channel in range(c):
        group = channel * k["frequencies"] // c
        u, v = (int(indices[group]) for indices in ORDER)
        basis = np.outer(cosine(u * (height // 7), height), cosine(v * (width // 7), width))
        f[:, channel] = (on_grid[:, channel] * basis).sum((1, 2))
    z = linear(relu(linear(f, p, "reduce")), p, "expand")
    return x * gate(z, k)[:, :, None, None]


def cosine(frequency: int, side: int) -> Array:
    wave = np.cos(np.pi * frequency * (np.arange(side) + 0.5) / side) / np.sqrt(side)
    if frequency > 0:
        wave = wave * np.sqrt(2)
    # Modules hold it in float32.
    return wave.astype(np.float32).astype(np.float64)


def grn(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    size = np.sqrt((x**2).sum((2, 3)))
    n = size / (size.mean(1, keepdims=True) + 1e-6)
    return x * (p["gamma"] * n)[:, :, None, None] + p["beta"][:, None, None] + x


def gc(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    weight = softmax(conv_of(x, p, "mask").reshape(len(x), -1))
    context = np.einsum("ncp,np->nc", x.reshape(*x.shape[:2], -1), weight)
    h = layer_norm(linear(context, p, "reduce"), p, "norm")
    return x + linear(relu(h), p, "expand")[:, :, None, None]


def cbam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = sum(
        linear(relu(linear(v, p, "channel.reduce")), p, "channel.expand")
        for v in (mean(x), x.max((2, 3)))
    )
    x = x * gate(np.asarray(z), k)[:, :, None, None]
    z = conv_of(np.stack((x.max(1), x.mean(1)), 1), p, "spatial.conv")
    return x * gate(batch_norm(z, p, "spatial.norm", train), k)


def bam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = relu(batch_norm(linear(mean(x), p, "channel.0"), p, "channel.1", train))
    c = linear(c, p, "channel.3")
    m = relu(batch_norm(conv_of(x, p, "spatial.0"), p, "spatial.1", train))
    for i in (3, 6):
        m = conv_of(m, p, f"spatial.{i}", dilation=k["dilation"])
        m = relu(batch_norm(m, p, f"spatial.{i + 1}", train))
    c = batch_norm(c, p, "channel.4", train)[:, :, None, None]
    z = c + batch_norm(conv_of(m, p, "spatial.9"), p, "spatial.10", train)
    return x * (gate(z, k) + (0 if k["identity"] else 1))


def gam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    z = conv_of(relu(conv_of(x, p, "channel.0")), p, "channel.2")
    x = x * gate(z, k)
    groups = k["groups"]
    z = relu(batch_norm(conv_of(x, p, "spatial.0", groups=groups), p, "spatial.1", train))
    a = gate(batch_norm(conv_of(z, p, "spatial.3", groups=groups), p, "spatial.4", train), k)
    n, c, height, width = a.shape
    a = a.reshape(n, groups, c // groups, height, width).swapaxes(1, 2).reshape(a.shape)
    return x * a


def simam(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    d = (x - x.mean((2, 3), keepdims=True)) ** 2
    count = x.shape[2] * x.shape[3]
    v = d.sum((2, 3), keepdims=True) / max(count - 1, 1)
    return blended(x, x * s(d / (4 * (v + k["e_lambda"])) + 0.5), p)


def sge(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    g = x.reshape(n * k["groups"], c // k["groups"], height, width)
    t = (g * g.mean((2, 3), keepdims=True)).sum(1).reshape(n * k["groups"], -1)
    t = t - t.mean(1, keepdims=True)
    t = t / (np.sqrt((t**2).sum(1, keepdims=True) / max(t.shape[1] - 1, 1)) + 1e-5)
    z = (
        t.reshape(n, k["groups"], height, width) * p["weight"][:, None, None]
        + p["bias"][:, None, None]
    )
    return (g * gate(z, k).reshape(n * k["groups"], 1, height, width)).reshape(x.shape)


def scse(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x * gate(linear(relu(linear(mean(x), p, "reduce")), p, "expand"), k)[:, :, None, None]
    m = x * gate(conv_of(x, p, "spatial"), k)
    return np.maximum(c, m)


def triplet(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    parts = []
    for name, order in (
        ("gate_cw", (0, 2, 1, 3)),
        ("gate_ch", (0, 3, 2, 1)),
        ("gate_hw", (0, 1, 2, 3)),
    ):
        turned = x.transpose(order)
        z = conv_of(np.stack((turned.max(1), turned.mean(1)), 1), p, f"{name}.conv")
        parts.append((turned * gate(batch_norm(z, p, f"{name}.norm", train), k)).transpose(order))
    return np.mean(parts, 0)


def ema(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    g = x.reshape(n * k["groups"], c // k["groups"], height, width)
    strips = np.concatenate((g.mean(3), g.mean(2)), 2)[..., None]
    a = s(convolve(strips, p["strips.weight"][..., None], p["strips.bias"]))[..., 0]
    u = group_norm(g * a[:, :, :height, None] * a[:, :, None, height:], c // k["groups"], p, "norm")
    v = conv_of(g, p, "conv")
    z = sum(np.einsum("bc,bchw->bhw", softmax(mean(one)), other) for one, other in ((u, v), (v, u)))
    return blended(x, (g * s(np.asarray(z))[:, None]).reshape(x.shape), p)


def shuffle(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    if k["identity"]:
        x = np.concatenate((x[:, 0::2], x[:, 1::2]), 1)
    g = x.reshape(n, k["groups"], c // k["groups"], height, width)
    half = g.shape[2] // 2
    u, v = g[:, :, :half], g[:, :, half:]
    z = u.mean((3, 4)) * p["channel_weight"] + p["channel_bias"]
    t = v - v.mean((3, 4), keepdims=True)
    t = t / np.sqrt((t**2).mean((3, 4), keepdims=True) + 1e-5)
    t = t * p["norm.weight"][:, None, None] + p["norm.bias"][:, None, None]
    t = t * p["spatial_weight"][:, None, None] + p["spatial_bias"][:, None, None]
    parts = (u * gate(z, k)[..., None, None], v * gate(t, k))
    y = np.concatenate(parts, 2).reshape(x.shape)
    first = (c + 1) // 2
    order = [j // 2 if j % 2 == 0 else first + j // 2 for j in range(c)]
    return y[:, order]


def adaptive_mean(x: Array, rows: int, columns: int) -> Array:
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            down = slice(i * height // rows, -(-(i + 1) * height // rows))
            across = slice(j * width // columns, -(-(j + 1) * width // columns))
            y[:, :, i, j] = x[:, :, down, across].mean((2, 3))
    return y


def mlca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    local = 5
    pooled = adaptive_mean(x, local, local)
    one = along(mean(pooled), p["conv.weight"][0, 0])[:, :, None, None]
    row = pooled.reshape(n, c, -1).swapaxes(1, 2).reshape(n, -1)
    each = (
        along(row, p["conv_local.weight"][0, 0])
        .reshape(n, local**2, c)
        .swapaxes(1, 2)
        .reshape(pooled.shape)
    )
    mixed = (gate(one, k) + gate(each, k)) / 2
    return x * adaptive_mean(mixed, height, width)


def along(z: Array, w: Array) -> Array:
    """Cross-correlation along axis 1 that keeps its length."""
    padded = np.pad(z, ((0, 0), (len(w) // 2, len(w) // 2)))
    return np.stack([padded[:, i : i + len(w)] @ w for i in range(z.shape[1])], 1)


def psa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    sequential = k["layout"] == "sequential"
    k = {**k, "identity": k["identity"] and sequential}
    v = x.reshape(n, c, -1)
    weight = softmax(conv_of(x, p, "channel.query").reshape(n, -1))
    z = np.einsum("nhp,np->nh", np.einsum("hc,ncp->nhp", p["channel.value.weight"], v), weight)
    z = layer_norm(linear(z, p, "channel.up.0"), p, "channel.up.1")
    a = gate(z, k)[:, :, None, None]
    u = x * a if sequential else x
    query = convolve(u, p["spatial.query.weight"][:, :, None, None]).mean((2, 3))
    value = conv_of(u, p, "spatial.value").reshape(n, query.shape[1], -1)
    m = gate(np.einsum("nh,nhp->np", softmax(query), value), k).reshape(n, 1, height, width)
    return u * m if sequential else x * a + x * m


def ge(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    height, width = x.shape[2:]
    e, z = k["extent"], x
    if k["gather"] == "conv" and e == 0:
        z = batch_norm(
            (x * p["gather.0.weight"][:, 0]).sum((2, 3), keepdims=True), p, "gather.1", train
        )
    elif k["gather"] == "conv":
        for step in range(int(np.log2(e))):
            z = relu(z) if step else z
            z = conv_of(z, p, f"gather.{3 * step}", groups=x.shape[1])[:, :, ::2, ::2]
            z = batch_norm(z, p, f"gather.{3 * step + 1}", train)
    elif e == 0:
        z = mean(x)[:, :, None, None]
    else:
        rows, columns = range(0, height, e), range(0, width, e)
        z = np.stack([np.stack([around(x, i, j, e) for j in columns], 2) for i in rows], 2)
    if k["mlp"]:
        z = relu(z) if k["gather"] == "conv" else z
        z = conv_of(relu(conv_of(z, p, "mlp.0")), p, "mlp.2")
    nearest = np.arange(height) * z.shape[2] // height, np.arange(width) * z.shape[3] // width
    doubled = {"identity": k["identity"] and "blend" not in p}
    return blended(x, x * gate(z, doubled)[:, :, nearest[0]][:, :, :, nearest[1]], p)


def around(x: Array, i: int, j: int, e: int) -> Array:
    """The mean of what lies inside the map and less than e from row i and column j."""
    return x[:, :, max(0, i - e + 1) : i + e, max(0, j - e + 1) : j + e].mean((2, 3))


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
    for axis in (3, 2):
        z = convolve(x.mean(axis)[..., None], p["conv_h.weight"][..., None], groups=k["groups"])
        z = group_norm(z[..., 0], k["norm_groups"], p, "norm_h")
        y = y * np.expand_dims(gate(z, k), axis)
    return y


def scsa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c, height, width = x.shape
    share = c // k["groups"]
    u = x
    for name, axis in (("norm_h", 3), ("norm_w", 2)):
        strips = [
            convolve(
                x.mean(axis)[:, i * share : (i + 1) * share, :, None],
                p[f"strips.{i}.weight"][..., None],
                p[f"strips.{i}.bias"],
                groups=share,
            )
            for i in range(k["groups"])
        ]
        z = group_norm(np.concatenate(strips, 1)[..., 0], k["groups"], p, name)
        u = u * np.expand_dims(gate(z, k), axis)
    side = min(k["window_size"], height), min(k["window_size"], width)
    down, across = height // side[0], width // side[1]
    m = (
        u[:, :, : down * side[0], : across * side[1]]
        .reshape(n, c, down, side[0], across, side[1])
        .mean((3, 5))
    )
    m = group_norm(m, 1, p, "norm").reshape(n, c, -1)
    q, key, v = (m * p[f"{name}.weight"][:, 0, 0] for name in ("query", "key", "value"))
    d = c // k["heads"]
    z = np.zeros((n, c))
    for head in range(k["heads"]):
        mine = slice(head * d, head * d + d)
        a = softmax(np.einsum("nip,njp->nij", q[:, mine], key[:, mine]) / np.sqrt(d))
        z[:, mine] = np.einsum("nij,njp->nip", a, v[:, mine]).mean(2)
    return u * gate(z, k)[:, :, None, None]


def cells(x: Array, side: int) -> Array:
    """Means over cells of this side; those at the border may be smaller."""
    rows, columns = range(0, x.shape[2], side), range(0, x.shape[3], side)
    return np.stack(
        [
            np.stack([x[:, :, i : i + side, j : j + side].mean((2, 3)) for j in columns], 2)
            for i in rows
        ],
        2,
    )


def qkv(x: Array, p: Params, side: int) -> tuple[Array, Array, Array]:
    q, k, v = np.split(p["qkv.weight"], 3)
    small = cells(x, side)
    return convolve(x, q), convolve(small, k), convolve(small, v)


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
                r = p["row_table"][np.arange(rows) - (i // side - rows + 1)]
                t = p["column_table"][np.arange(columns) - (j // side - columns + 1)]
                z = z + (look @ r.T)[:, :, None] + (look @ t.T)[:, None]
                a = softmax(z.reshape(n, -1)).reshape(z.shape)
                y[:, mine, i, j] = np.einsum("nhw,ndhw->nd", a, v[:, mine])
    return x + conv_of(y, p, "out")


def mqa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c = x.shape[:2]
    q = conv_of(x, p, "query").reshape(n, c, -1)
    stride = k["kv_stride"]
    maps = []
    for name in ("key", "value"):
        u = x
        if stride > 1:
            u = conv_of(x, p, f"{name}.0", groups=c)[:, :, ::stride, ::stride]
            u = batch_norm(u, p, f"{name}.1", train)
        u = conv_of(u, p, f"{name}.{2 if stride > 1 else 0}")
        maps.append(u.reshape(n, u.shape[1], -1))
    key, value = maps
    d = c // k["heads"]
    a = [
        np.einsum("npk,ndk->ndp", softmax(np.einsum("ndp,ndk->npk", one, key) / np.sqrt(d)), value)
        for one in np.split(q, k["heads"], 1)
    ]
    return x + conv_of(np.concatenate(a, 1).reshape(x.shape), p, "out")


def relu_linear(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    n, c = x.shape[:2]
    d = k["head_width"]
    u = conv_of(x, p, "qkv")
    if k["multi_scale"]:
        v = conv_of(u, p, "aggregate.0", groups=3 * c)
        u = np.concatenate((u, conv_of(v, p, "aggregate.1", groups=3 * c // d)), 1)
    parts = []
    for head in np.split(u.reshape(n, u.shape[1], -1), u.shape[1] // (3 * d), 1):
        q, key, value = relu(head[:, :d]), relu(head[:, d : 2 * d]), head[:, 2 * d :]
        weight = np.einsum("ndp,ndk->npk", q, key)
        total = weight.sum(2)[:, None] + 1e-5
        parts.append(np.einsum("npk,ndk->ndp", weight, value) / total)
    a = np.concatenate(parts, 1).reshape(n, -1, *x.shape[2:])
    return x + batch_norm(conv_of(a, p, "out"), p, "norm", train)


def projected(x: Array, p: Params, name: str, train: bool, groups: int = 1) -> Array:
    return batch_norm(conv_of(x, p, f"{name}.0", groups=groups), p, f"{name}.1", train, eps=1e-3)


def c2psa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    d = x.shape[1] // k["heads"]
    keys = max(1, d // k["reduction"])
    return with_position(x, p, train, (keys, d), 1)


def area(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    d = x.shape[1] // k["heads"]
    return with_position(x, p, train, (d, d), k["areas"])


def with_position(x: Array, p: Params, train: bool, widths: tuple[int, int], areas: int) -> Array:
    n, c, height, width = x.shape
    keys, d = widths
    pixels = np.arange(height * width)
    length = -(-len(pixels) // areas)
    apart = pixels[:, None] // length != pixels // length
    u = projected(x, p, "qkv", train).reshape(n, c // d, 2 * keys + d, -1)
    q, key, value = u[:, :, :keys], u[:, :, keys : 2 * keys], u[:, :, 2 * keys :]
    z = np.einsum("nadp,nadk->napk", q, key) / np.sqrt(keys)
    a = softmax(np.where(apart, -np.inf, z))
    y = np.einsum("napk,nadk->nadp", a, value).reshape(x.shape)
    y = y + projected(value.reshape(x.shape), p, "position", train, groups=c)
    return x + projected(y, p, "out", train)


def lska(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    a = conv_of(conv_of(x, p, "rows", groups=c), p, "columns", groups=c)
    dilation = 2 if k["kernel_size"] < 23 else 3
    for name in ("far_rows", "far_columns"):
        a = conv_of(a, p, name, groups=c, dilation=dilation)
    return x * conv_of(a, p, "mix")


def msca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    u = conv_of(x, p, "near", groups=c)
    strips = [
        conv_of(conv_of(u, p, f"strips.{i}.0", groups=c), p, f"strips.{i}.1", groups=c)
        for i in range(3)
    ]
    return x * conv_of(u + sum(strips), p, "mix")


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
        z = conv_of(x, p, f"branches.{i}.0", groups=k["groups"], dilation=i + 1)
        u.append(relu(batch_norm(z, p, f"branches.{i}.1", train)))
    z = relu(batch_norm(linear(mean(np.sum(u, 0)), p, "reduce"), p, "norm", train))
    a = softmax(linear(z, p, "expand").reshape(len(x), len(u), -1), 1)
    return blended(x, np.asarray(sum(a[:, i, :, None, None] * u[i] for i in range(len(u)))), p)


def caa(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c, side = x.shape[1], k["pool_size"]
    z = convolve(x, np.full((c, 1, side, side), 1 / side**2), groups=c)
    z = mixed(z, p, "first", train)
    z = conv_of(conv_of(z, p, "rows", groups=c), p, "columns", groups=c)
    return x * gate(mixed(z, p, "last", train), k)


def mixed(x: Array, p: Params, name: str, train: bool) -> Array:
    z = batch_norm(conv_of(x, p, f"{name}.0"), p, f"{name}.1", train, eps=1e-3)
    return z * s(z)


def cpca(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    c = x.shape[1]
    one, other = (
        linear(relu(linear(v, p, "reduce")), p, "expand") for v in (mean(x), x.max((2, 3)))
    )
    u = x * gate(one + other, k)[:, :, None, None]
    d = conv_of(u, p, "near", groups=c)
    z = d
    for i in range(3):
        z = z + conv_of(conv_of(d, p, f"strips.{i}.0", groups=c), p, f"strips.{i}.1", groups=c)
    return u * conv_of(z, p, "mix")


def dwconv(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    return x + batch_norm(conv_of(relu(x), p, "conv", groups=x.shape[1]), p, "norm", train)


def conv(x: Array, p: Params, k: Knobs, train: bool) -> Array:
    return x + batch_norm(conv_of(relu(x), p, "conv"), p, "norm", train)
