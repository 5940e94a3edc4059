#!/usr/bin/env python3
"""Writes the golden values of this folder: what PyTorch computes for a representative set of ops.

    python3 generate.py [FOLDER]          (needs torch, transformers, safetensors, numpy)

One safetensors file per family of ops. A case NAME stands there as

    NAME/in0, NAME/in1, ...     the inputs
    NAME/out0, ...              the outputs
    NAME/up0, ...               an upstream gradient per floating output (differentiable cases)
    NAME/grad0, ...             d(sum of up . out)/d(input); inputs without one are constants

Inputs and upstream gradients hold numbers that a float can represent, and everything is computed in
f64: the same file is the truth for f64 and for f32. tests/test_golden_ops.cpp names the operation of
each case. Every case draws from its own seed (a checksum of its name), so that adding one leaves the
others alone. Ties and kinks are avoided where frameworks differ.

gpt2.safetensors is a training run of a tiny GPT-2 of transformers: see gpt2.py.
"""
import pathlib
import sys

import torch
import torch.nn.functional as F

from case_file import INF, NAN, Family, indices, numbers, random
from casts import casts
from gpt2 import check_gpt2, golden_gpt2
from layers import attention, layers

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

# ---------------------------------------------------------------------------------- pointwise


def pointwise(folder):
    family = Family("pointwise")
    everywhere = numbers(-30, -8, -3.5, -1, -0.3, -1e-4, -1e-12, 1e-12, 1e-4, 0.3, 1, 2.2, 3.5, 8, 30)
    exponents = numbers(-80, -30, -8, -1, -0.3, -1e-4, -1e-12, 0, 1e-12, 1e-4, 0.3, 1, 8, 30, 80)
    positive = numbers(1e-20, 1e-6, 1e-3, 0.3, 0.99, 1, 1.001, 2, 10, 1e3, 1e6, 1e20)
    angles = numbers(-1000, -100, -6.2831855, -3, -1.5707964, -0.3, 1e-12, 0.3, 0.7853982, 1.5707964, 3, 6.2831855, 100, 1000)
    moderate = numbers(-6, -3, -1.5, -1, -0.5, -0.1, -1e-4, 1e-12, 1e-4, 0.1, 0.5, 1, 1.5, 3, 6)
    steps = numbers(-2.5, -1.5, -1.2, -0.7, -0.5, -0.2, 0, 0.2, 0.5, 0.7, 1.2, 1.5, 2.5, 1e10, -1e10)
    unary = {
        "neg": (torch.neg, everywhere), "abs": (torch.abs, everywhere), "square": (torch.square, everywhere),
        "exp": (torch.exp, exponents), "expm1": (torch.expm1, exponents),
        "log": (torch.log, positive), "sqrt": (torch.sqrt, positive), "rsqrt": (torch.rsqrt, positive),
        "log1p": (torch.log1p, numbers(-0.999, -0.5, -1e-4, -1e-12, 0, 1e-12, 1e-4, 0.3, 1, 10, 1e6, 1e20)),
        "reciprocal": (torch.reciprocal, numbers(-1e6, -30, -1, -0.3, -0.02, 0.02, 0.3, 1, 30, 1e6)),
        "sin": (torch.sin, angles), "cos": (torch.cos, angles),
        "tanh": (torch.tanh, everywhere), "sigmoid": (torch.sigmoid, exponents),
        "relu": (torch.relu, everywhere), "silu": (F.silu, exponents), "erf": (torch.erf, moderate),
        "gelu": (F.gelu, exponents), "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), exponents),
        # torch's softplus is the identity above a threshold of 20; this one is the formula itself
        "softplus": (lambda x: torch.logaddexp(x, torch.zeros_like(x)), exponents),
    }
    for name, (function, points) in unary.items():
        family.case(name, function, points)
    family.case("leaky_relu", lambda x: F.leaky_relu(x, 0.01), everywhere)
    family.case("leaky_relu_steep", lambda x: F.leaky_relu(x, 0.3), everywhere)
    family.case("clamp", lambda x: torch.clamp(x, -0.5, 1.5), everywhere)
    family.case("clamp_min", lambda x: torch.clamp(x, min=-0.5), everywhere)
    family.case("clamp_max", lambda x: torch.clamp(x, max=0.75), everywhere)
    for name in ["sign", "floor", "ceil", "round"]:  # round: halves to even
        family.case(name, getattr(torch, name), steps, differentiable=False)

    for name in ["add", "sub", "mul", "div", "maximum", "minimum"]:
        function = getattr(torch, name)
        family.case(name, function, (3, 4), (3, 4))
        family.case(name + "_broadcast", function, (2, 1, 3), (4, 1))
    for name, function in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}.items():
        family.case(name + "_number", lambda x: function(x, 1.5), everywhere)
        family.case("number_" + name, lambda x: function(torch.tensor(1.5, dtype=x.dtype), x), (3, 5))

    base = random("pow/base", 3, 4, low=0.2, high=3.0)
    family.case("pow", torch.pow, base, (3, 4))
    family.case("pow_broadcast", torch.pow, base, (2, 1, 4))
    family.case("pow_zero_base", torch.pow, numbers(0, 0, 0), numbers(1, 2, 3.5))
    signed = numbers(-7, -2, -0.5, 0.5, 1, 3, 20)
    for label, exponent in {"0": 0.0, "1": 1.0, "2": 2.0, "3": 3.0, "minus_1": -1.0, "minus_2": -2.0}.items():
        family.case("pow_" + label, lambda x: torch.pow(x, exponent), signed)
    family.case("pow_half", lambda x: torch.pow(x, 0.5), positive)
    family.case("pow_2_5", lambda x: torch.pow(x, 2.5), numbers(1e-6, 0.1, 1, 3, 50))
    family.case("number_pow", lambda x: torch.pow(2.0, x), numbers(-20, -1, -0.3, 0, 0.5, 1, 3, 20))

    left, right = indices([1, 2, 3], [0, -1, 0]), indices([1, 3, 2], [0, 0, -1])
    for name in ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]:
        family.case(name, getattr(torch, name), left.double(), right.double(), differentiable=False)
    family.case("compare_nan", lambda x, y: [x == y, x != y, x < y, x >= y], numbers(NAN, 1, NAN, INF),
                numbers(NAN, NAN, 1, INF), differentiable=False)
    family.case("lt_number", lambda x: x < 0.3, moderate, differentiable=False)
    family.case("logical_not", torch.logical_not, numbers(0, 1, -2), differentiable=False)
    family.case("isfinite", torch.isfinite, numbers(0, 1e30, INF, -INF, NAN), differentiable=False)

    condition = torch.tensor([[True, False, True], [False, False, True]])
    family.case("where", torch.where, condition, (2, 3), (2, 3))
    family.case("where_broadcast", torch.where, condition, (4, 1, 3), (1, 1))
    family.case("masked_fill", lambda x, m: x.masked_fill(m, -7.5), (4, 2, 3), condition)
    family.write(folder)


# ---------------------------------------------------------------------------------- reductions


def axes_or_all(axes, x):
    return axes or tuple(range(x.dim()))


def reductions(folder):
    family = Family("reduce")
    forms = {"all": ((), False), "axis0": ((0,), False), "axis1_keepdim": ((1,), True), "axes02": ((0, 2), False),
             "last_keepdim": ((-1,), True)}
    functions = {
        "sum": lambda x, a, k: torch.sum(x, a, k), "mean": lambda x, a, k: torch.mean(x, a, k),
        "max": lambda x, a, k: torch.amax(x, a, k), "min": lambda x, a, k: torch.amin(x, a, k),
        "var": lambda x, a, k: torch.var(x, a, correction=1, keepdim=k),
        "var_correction0": lambda x, a, k: torch.var(x, a, correction=0, keepdim=k),
        "std": lambda x, a, k: torch.std(x, a, correction=1, keepdim=k),
        "std_correction0": lambda x, a, k: torch.std(x, a, correction=0, keepdim=k),
        "norm1": lambda x, a, k: torch.linalg.vector_norm(x, 1, a, k),
        "norm2": lambda x, a, k: torch.linalg.vector_norm(x, 2, a, k),
        "norm3": lambda x, a, k: torch.linalg.vector_norm(x, 3, a, k),
        "norm_inf": lambda x, a, k: torch.linalg.vector_norm(x, INF, a, k),
        "logsumexp": lambda x, a, k: torch.logsumexp(x, a, k),
    }
    for name, function in functions.items():
        for form, (axes, keepdim) in forms.items():
            family.case(f"{name}/{form}", lambda x: function(x, axes_or_all(axes, x), keepdim), (3, 4, 5))
    offset = random("var_offset", 2, 6) + 32.0  # a mean far above the spread
    family.case("var_offset", lambda x: torch.var(x, -1), offset)
    family.case("sum_one_element", lambda x: torch.sum(x, 0), (1, 3))
    family.case("norm2_zero_row", lambda x: torch.linalg.vector_norm(x, 2, -1), numbers(3, -4, 0, 0).reshape(2, 2))
    family.case("norm1_zeros", lambda x: torch.linalg.vector_norm(x, 1, -1), numbers(3, 0, -2, 0).reshape(2, 2))
    family.case("logsumexp_large", lambda x: torch.logsumexp(x, -1), numbers(1e4, 9999, -1e4, -5e3, -5001, -6e3).reshape(2, 3),
                differentiable=False)
    family.case("logsumexp_shifted", lambda x: torch.logsumexp(x, -1), numbers(50, 49, 10, -61, -60, -70).reshape(2, 3))
    family.case("logsumexp_infinite", lambda x: torch.logsumexp(x, -1),
                numbers(-INF, 1, 2, -INF, -INF, -INF).reshape(2, 3), differentiable=False)

    family.case("prod", torch.prod, (2, 5))
    family.case("prod_axis", lambda x: torch.prod(x, 1), (3, 4, 2))
    family.case("prod_axis_keepdim", lambda x: torch.prod(x, -1, keepdim=True), (3, 4))
    zeros = numbers(2, -3, 4, 0.5, 2, 0, 4, 0.5, 0, -3, 0, 0.5).reshape(3, 4)  # none, one and two zeros
    family.case("prod_zeros", lambda x: torch.prod(x, 1), zeros)

    for axis in [0, 1, -1]:
        label = "last" if axis < 0 else axis
        family.case(f"cumsum_{label}", lambda x: torch.cumsum(x, axis), (3, 4, 5))
        family.case(f"sort_{label}", lambda x: torch.sort(x, axis), (3, 4, 5))
        family.case(f"sort_descending_{label}", lambda x: torch.sort(x, axis, descending=True), (3, 4, 5))
        family.case(f"argsort_{label}", lambda x: torch.argsort(x, axis), (3, 4, 5), differentiable=False)
        family.case(f"topk_{label}", lambda x: torch.topk(x, 2, axis), (3, 4, 5))
        family.case(f"topk_smallest_{label}", lambda x: torch.topk(x, 3, axis, largest=False), (3, 4, 5))
        family.case(f"argmax_{label}", lambda x: torch.argmax(x, axis), (3, 4, 5), differentiable=False)
        family.case(f"argmin_{label}", lambda x: torch.argmin(x, axis, keepdim=True), (3, 4, 5), differentiable=False)
    family.case("argmax_flat", torch.argmax, (3, 4), differentiable=False)

    broken = numbers(1, NAN, 3, -INF, 5, INF, 0.5, 2, NAN).reshape(3, 3)
    family.case("nan_sort", lambda x: torch.sort(x, dim=-1, stable=True), broken, differentiable=False)
    family.case("nan_max", lambda x: torch.amax(x, -1), broken, differentiable=False)
    family.case("nan_min", lambda x: torch.amin(x, -1), broken, differentiable=False)
    family.case("nan_argmax", lambda x: torch.argmax(x, -1), broken, differentiable=False)
    family.case("nan_argmin", lambda x: torch.argmin(x, -1), broken, differentiable=False)
    equals = indices([2, 1, 2, 1], [3, 3, 0, 0])
    family.case("stable_sort", lambda x: torch.sort(x, dim=-1, stable=True), equals, differentiable=False)
    family.case("stable_sort_descending", lambda x: torch.sort(x, dim=-1, descending=True, stable=True), equals, differentiable=False)
    truth = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    family.case("any", lambda x: torch.any(x, 1), truth, differentiable=False)
    family.case("all", lambda x: torch.all(x, 1, keepdim=True), truth, differentiable=False)
    family.case("sum_bool", lambda x: torch.sum(x, 0), truth, differentiable=False)
    family.write(folder)


# ---------------------------------------------------------------------------------- layout


def layout(folder):
    family = Family("layout")
    family.case("reshape", lambda x: x.reshape(4, -1), (2, 3, 4))
    family.case("reshape_of_transpose", lambda x: x.transpose(0, 1).reshape(6, 4), (2, 3, 4))
    family.case("flatten", lambda x: x.flatten(1, 2), (2, 3, 4, 2))
    family.case("transpose", lambda x: x.transpose(0, 2), (2, 3, 4))
    family.case("permute", lambda x: x.permute(2, 0, 3, 1), (2, 3, 4, 2))
    family.case("expand", lambda x: x.expand(4, -1, 3), (2, 1))
    family.case("squeeze_unsqueeze", lambda x: x.squeeze(1).unsqueeze(-1), (2, 1, 3))
    family.case("cat", lambda a, b, c: torch.cat([a, b, c], 1), (2, 3, 2), (2, 1, 2), (2, 2, 2))
    family.case("stack", lambda a, b: torch.stack([a, b], 1), (2, 3), (2, 3))
    family.case("split", lambda x: torch.split(x, 2, 1), (2, 5))
    family.case("split_sizes", lambda x: torch.split(x, [1, 3, 2], 0), (6, 2))
    family.case("chunk", lambda x: torch.chunk(x, 3, -1), (2, 7))
    family.case("slice", lambda x: x[:, 1:-1:2], (2, 7))
    family.case("slice_backwards", lambda x: x[:, 1:6:2].flip(1), (2, 7))  # x[:, 5:0:-2]
    family.case("select", lambda x: x[:, -2], (2, 4, 3))
    family.case("index_select", lambda x, i: torch.index_select(x, 1, i), (2, 4, 3), indices(3, 0, 3, 3, 1))
    family.case("gather", lambda x, i: torch.gather(x, 1, i), (2, 4, 3),
                indices([[0, 3, 3], [2, 0, 3]], [[1, 1, 1], [3, 0, 2]]))
    family.case("gather_last", lambda x, i: torch.gather(x, -1, i), (3, 4), indices([0, 0, 3, 3, 0], [1, 2, 1, 2, 1], [3, 2, 1, 0, 0]))
    family.case("scatter_add", lambda x, i, s: torch.scatter_add(x, 0, i, s), (3, 4),
                indices([0, 2, 1, 1], [0, 2, 0, 1], [2, 2, 0, 1], [0, 1, 0, 1]), (4, 4))
    family.case("flip", lambda x: x.flip(0, 2), (2, 3, 4))
    family.case("roll", lambda x: torch.roll(x, 2, 1), (2, 5))
    family.case("roll_backwards", lambda x: torch.roll(x, -7, 0), (5, 2))
    family.case("repeat", lambda x: x.repeat(2, 1, 3), (2, 3))
    family.case("pad", lambda x: F.pad(x, (3, 0, 1, 2), value=0.5), (2, 3))  # torch counts from the last axis
    for diagonal in [-1, 0, 1]:
        label = "minus_1" if diagonal < 0 else diagonal
        family.case(f"tril_{label}", lambda x: torch.tril(x, diagonal), (2, 3, 4))
        family.case(f"triu_{label}", lambda x: torch.triu(x, diagonal), (2, 4, 3))
        family.case(f"diagonal_{label}", lambda x: torch.diagonal(x, diagonal), (3, 4))
    family.case("diagonal_axes", lambda x: torch.diagonal(x, 1, 2, 0), (3, 2, 4))
    family.case("one_hot", lambda i: F.one_hot(i, 5), indices([0, 4, 2], [3, 3, 1]))
    family.write(folder)


# ---------------------------------------------------------------------------------- dense algebra


def algebra(folder):
    family = Family("algebra")
    matmuls = {
        "matmul": ((5, 7), (7, 4)), "matmul_wide": ((3, 70), (70, 33)), "matmul_batched": ((2, 3, 4), (2, 4, 5)),
        "matmul_broadcast": ((2, 1, 3, 4), (5, 4, 2)), "matmul_shared_right": ((2, 3, 3, 4), (4, 5)),
        "matmul_shared_left": ((3, 4), (2, 4, 5)), "matmul_dot": ((6,), (6,)), "matmul_vector_left": ((4,), (2, 4, 3)),
        "matmul_vector_right": ((2, 3, 4), (4,)), "matmul_outer": ((5, 1), (1, 3)),
    }
    for name, shapes in matmuls.items():
        family.case(name, torch.matmul, *shapes)
    family.case("matmul_nt", lambda a, b: a @ b.transpose(-1, -2), (2, 3, 4), (2, 5, 4))
    family.case("matmul_tn", lambda a, b: a.transpose(-1, -2) @ b, (4, 3), (4, 5))
    family.case("matmul_tt", lambda a, b: a.transpose(-1, -2) @ b.transpose(-1, -2), (2, 4, 3), (5, 4))
    family.case("linear", F.linear, (2, 3, 4), (5, 4), (5,))
    family.case("linear_no_bias", F.linear, (3, 4), (5, 4))
    family.case("linear_vector", F.linear, (4,), (5, 4), (5,))
    two = {"ij,jk->ik": ((3, 4), (4, 5)), "bthd,bshd->bhts": ((2, 3, 2, 4), (2, 5, 2, 4)),
           "bhts,bshd->bthd": ((2, 2, 3, 5), (2, 5, 2, 4)), "ij,ij->": ((3, 4), (3, 4)), "i,j->ij": ((3,), (4,)),
           "bij,bj->bi": ((2, 3, 4), (2, 4)), "bij,kj->bki": ((2, 3, 4), (5, 4)), "ij,ij->ij": ((3, 4), (3, 4)),
           "ijk,kl->jl": ((2, 3, 4), (4, 5)), "btc,c->bt": ((2, 3, 4), (4,))}
    for equation, shapes in two.items():
        family.case("einsum " + equation, lambda a, b: torch.einsum(equation, a, b), *shapes)
    for equation in ["ijk->ki", "ijk->kij"]:
        family.case("einsum " + equation, lambda a: torch.einsum(equation, a), (2, 3, 4))
    family.write(folder)


# ---------------------------------------------------------------------------------- losses


def losses(folder):
    family = Family("losses")
    logits, target, none = (2, 3, 7), indices([1, -100, 6], [0, 3, -100]), indices([-100, -100, -100], [-100] * 3)

    def flat(loss, **options):  # ours takes logits (..., V) and target (...)
        def apply(x, t):
            result = loss(x.reshape(-1, x.shape[-1]), t.reshape(-1), **options)
            return result.reshape(t.shape) if options["reduction"] == "none" else result
        return apply

    for reduction in ["mean", "sum", "none"]:
        family.case(f"cross_entropy_{reduction}", flat(F.cross_entropy, reduction=reduction), logits, target)
        family.case(f"cross_entropy_smooth_{reduction}", flat(F.cross_entropy, reduction=reduction, label_smoothing=0.1),
                    logits, target)
        log_probabilities = F.log_softmax(random(f"nll_{reduction}", *logits), -1).float().double()
        family.case(f"nll_loss_{reduction}", flat(F.nll_loss, reduction=reduction), log_probabilities, target)
        for name, loss in {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss}.items():
            family.case(f"{name}_{reduction}", lambda x, t: loss(x, t, reduction=reduction), (3, 4), (3, 4), constant={1})
            family.case(f"{name}_both_{reduction}", lambda x, t: loss(x, t, reduction=reduction), (3, 4), (3, 4))
        share = random(f"share_{reduction}", 3, 4, low=0.1, high=0.9)
        bce = lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction)
        family.case(f"bce_{reduction}", bce, (3, 4), share, constant={1})
        family.case(f"bce_both_{reduction}", bce, (3, 4), share)
        family.case(f"bce_extreme_{reduction}", bce, numbers(-200, -40, 40, 200), numbers(1, 0, 1, 0), constant={1})
        first = F.log_softmax(random(f"kl_a_{reduction}", 3, 4), -1).float().double()
        second = F.log_softmax(random(f"kl_b_{reduction}", 3, 4), -1).float().double()
        kl = lambda x, t: F.kl_div(x, t, reduction=reduction)
        kl_log = lambda x, t: F.kl_div(x, t, reduction=reduction, log_target=True)
        probabilities = second.exp().float().double()
        family.case(f"kl_div_{reduction}", kl, first, probabilities, constant={1})
        family.case(f"kl_div_both_{reduction}", kl, first, probabilities)
        family.case(f"kl_div_log_{reduction}", kl_log, first, second, constant={1})
        family.case(f"kl_div_log_both_{reduction}", kl_log, first, second)
    family.case("kl_div_zero_target", lambda x, t: F.kl_div(x, t, reduction="mean"),
                F.log_softmax(random("kl_zero", 2, 3), -1).float().double(), numbers(0, 0.25, 0.75, 1, 0, 0).reshape(2, 3),
                constant={1})

    family.case("cross_entropy_ignore_0", flat(F.cross_entropy, reduction="mean", ignore_index=0), (2, 3, 7),
                indices([1, 0, 6], [0, 3, 2]))
    family.case("cross_entropy_large", flat(F.cross_entropy, reduction="none"),
                numbers(1e4, 9999, 0, -1e4, 5, 1e4).reshape(2, 3), indices(1, 0))
    family.case("cross_entropy_wide", flat(F.cross_entropy, reduction="mean"), (5, 131), indices(0, 130, 64, -100, 7))
    # torch divides 0 by 0 here; ours gives 0, so the sums (0 as well) stand for the means
    family.case("cross_entropy_nothing", flat(F.cross_entropy, reduction="sum"), logits, none)
    family.write(folder)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for family in [pointwise, reductions, layout, algebra, layers, attention, losses, casts]:
        family(folder)
    check_gpt2(*golden_gpt2(folder))
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        print(f"{file.stat().st_size:8d} {file.name}")
    print(f"{sum(file.stat().st_size for file in files):8d} bytes in all")


if __name__ == "__main__":
    main()
