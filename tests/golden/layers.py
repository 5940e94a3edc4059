"""Golden cases of softmax, normalisation, embedding, rotary embedding and attention; see generate.py."""
import numpy as np
import torch
import torch.nn.functional as F

from case_file import INF, Family, indices, numbers, random

# ---------------------------------------------------------------------------------- layers


def rotate_half(x, theta, offset):
    """Su et al. 2021 in the layout of Llama: x1' = x1 cos - x2 sin, x2' = x2 cos + x1 sin."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) * 2 / x.shape[-1])
    angle = torch.outer(offset + torch.arange(x.shape[-2], dtype=torch.float64), frequency)  # (T, D/2)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def rotate_pairs(x, theta, offset):
    """The same on pairs (2i, 2i + 1), as a multiplication of complex numbers."""
    frequency = theta ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angle = torch.outer(offset + torch.arange(x.shape[-2], dtype=torch.float64), frequency)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def layers(folder):
    family = Family("layers")
    for name, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        family.case(name, lambda x: function(x, -1), (3, 5))
        family.case(name + "_axis0", lambda x: function(x, 0), (3, 2, 4))
        family.case(name + "_axis1", lambda x: function(x, 1), (3, 4, 2))
        family.case(name + "_long", lambda x: function(4 * x, -1), (2, 133))
        family.case(name + "_large", lambda x: function(x, -1), numbers(1e4, 9998, 3, -1e4, -9999, -1.1e4).reshape(2, 3))
    family.case("softmax_infinite", lambda x: F.softmax(x, -1), numbers(-INF, 1, 2, 3, -INF, -INF).reshape(2, 3))

    family.case("layer_norm", lambda x, w, b: F.layer_norm(x, (6,), w, b, 1e-5), (2, 3, 6), (6,), (6,))
    family.case("layer_norm_no_bias", lambda x, w: F.layer_norm(x, (6,), w, None, 1e-3), (4, 6), (6,))
    family.case("layer_norm_plain", lambda x: F.layer_norm(x, (6,), None, None, 1e-5), (4, 6))
    family.case("layer_norm_wide", lambda x, w, b: F.layer_norm(x, (97,), w, b, 1e-5), (3, 97), (97,), (97,))
    family.case("rms_norm", lambda x, w: F.rms_norm(x, (6,), w, 1e-6), (2, 3, 6), (6,))
    family.case("rms_norm_large_eps", lambda x, w: F.rms_norm(x, (6,), w, 0.5), (4, 6), (6,))
    family.case("rms_norm_wide", lambda x, w: F.rms_norm(x, (97,), w, 1e-6), (3, 97), (97,))

    mlp_shapes = (2, 3, 5), (11, 5), (11,), (4, 11), (4,)
    for name, how in {"feed_forward": "tanh", "feed_forward_erf": "none"}.items():
        family.case(name, lambda x, up, b, down, c: F.linear(F.gelu(F.linear(x, up, b), approximate=how), down, c), *mlp_shapes)
    family.case("feed_forward_swiglu", lambda x, up, down, gate: F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down),
                (4, 5), (11, 5), (5, 11), (11, 5))

    tokens = indices([0, 3, 3, 1], [6, 0, 3, 2])
    family.case("embedding", lambda i, w: F.embedding(i, w), tokens, (7, 5))
    family.case("embedding_padding", lambda i, w: F.embedding(i, w, padding_idx=3), tokens, (7, 5))

    family.case("rotary", lambda x: rotate_half(x, 10000.0, 0), (2, 2, 5, 8))
    family.case("rotary_offset", lambda x: rotate_half(x, 500.0, 17), (1, 2, 4, 6))
    family.case("rotary_interleaved", lambda x: rotate_pairs(x, 10000.0, 3), (2, 1, 5, 8))
    family.write(folder)


# ---------------------------------------------------------------------------------- attention


def band(queries, keys, window=0):
    """True where query t may see key s: s <= t + keys - queries, and only the last `window` keys."""
    distance = torch.arange(queries)[:, None] + (keys - queries) - torch.arange(keys)[None, :]
    return (distance >= 0) & ((distance < window) if window else torch.ones_like(distance, dtype=torch.bool))


def attention(folder):
    family = Family("attention")
    attend = F.scaled_dot_product_attention
    shape, longer = (2, 2, 5, 4), (2, 2, 9, 4)
    family.case("plain", attend, shape, shape, shape)
    family.case("scale", lambda q, k, v: attend(q, k, v, scale=0.125), shape, shape, shape)
    family.case("cross", attend, shape, longer, longer)
    family.case("causal", lambda q, k, v: attend(q, k, v, is_causal=True), shape, shape, shape)
    family.case("causal_cross", lambda q, k, v: attend(q, k, v, band(5, 9)), shape, longer, longer)
    family.case("causal_one_query", lambda q, k, v: attend(q, k, v, band(1, 9)), (2, 2, 1, 4), longer, longer)
    family.case("causal_long", lambda q, k, v: attend(q, k, v, band(70, 70)), *[(1, 1, 70, 4)] * 3)
    family.case("window", lambda q, k, v: attend(q, k, v, band(9, 9, 3)), longer, longer, longer)
    family.case("window_cross", lambda q, k, v: attend(q, k, v, band(5, 9, 4)), shape, longer, longer)

    mask = torch.from_numpy(np.random.default_rng(5).random((2, 1, 5, 9)) < 0.6)
    mask[..., 0] = True
    family.case("mask", lambda q, k, v, m: attend(q, k, v, m), shape, longer, longer, mask)
    padding = torch.tensor([[True] * 9, [True] * 6 + [False] * 3]).reshape(2, 1, 1, 9)
    family.case("mask_padding", lambda q, k, v, m: attend(q, k, v, m), shape, longer, longer, padding)
    family.case("mask_causal", lambda q, k, v, m: attend(q, k, v, m & band(5, 9)), shape, longer, longer, mask)
    bias = random("attention/bias", 1, 2, 5, 9)
    bias[0, 0, 2, 3:6] = -INF
    family.case("bias", lambda q, k, v, m: attend(q, k, v, m), shape, longer, longer, bias, constant={3})
    family.case("bias_causal", lambda q, k, v, m: attend(q, k, v, m.masked_fill(~band(5, 9), -INF)), shape, longer, longer,
                bias, constant={3})

    def blind(q, k, v, m):  # a query without keys: zeros, and no gradient through it
        scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~m, -1e30)
        return torch.where(m.any(-1, keepdim=True), F.softmax(scores, -1), 0.0) @ v

    nothing = mask.clone()
    nothing[:, :, 1] = False
    family.case("mask_blind_query", blind, shape, longer, longer, nothing)
    # more queries than keys: the first four queries lie before every key
    family.case("causal_blind_queries", lambda q, k, v: blind(q, k, v, band(9, 5)), longer, shape, shape)

    heads, groups = (2, 6, 5, 4), (2, 2, 5, 4)
    family.case("grouped", lambda q, k, v: attend(q, k, v, enable_gqa=True), heads, groups, groups)
    family.case("grouped_causal", lambda q, k, v: attend(q, k, v, is_causal=True, enable_gqa=True), heads, groups, groups)
    family.case("grouped_one", lambda q, k, v: attend(q, k, v, enable_gqa=True), heads, (2, 1, 7, 4), (2, 1, 7, 4))
    per_head = torch.from_numpy(np.random.default_rng(6).random((1, 6, 5, 5)) < 0.7) | torch.eye(5, dtype=torch.bool)
    family.case("grouped_mask", lambda q, k, v, m: attend(q, k, v, m, enable_gqa=True), heads, groups, groups, per_head)
    family.write(folder)
