"""Collects the golden cases of one family of ops; see generate.py for the layout of the files."""
import math
import zlib

import numpy as np
import torch
from safetensors.torch import save_file

INF, NAN = math.inf, math.nan


def random(seed, *shape, low=-2.0, high=2.0):
    """Uniform f64 numbers that f32 can represent, none closer to 0 than 0.05."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    values = generator.uniform(low, high, shape)
    values = np.where(np.abs(values) < 0.05, 0.05 + np.abs(values), values) if low < 0 else values
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


def numbers(*values):
    return torch.tensor(values, dtype=torch.float32).double()


def indices(*values):
    return torch.tensor(values, dtype=torch.int64)


def deviation(result, truth):
    """The error that the tests bound: relative to the element, or to min(1, largest) where that is more."""
    truth, result = truth.double(), result.double()
    finite = torch.isfinite(truth)
    assert torch.equal(finite, torch.isfinite(result))
    truth, result = truth[finite], result[finite]
    if truth.numel() == 0:
        return 0.0
    largest = truth.abs().max().item()
    return ((result - truth).abs() / truth.abs().clamp(min=max(min(1.0, largest), 1e-300))).max().item()


class Family:
    """Collects cases and writes them to FOLDER/NAME.safetensors."""

    def __init__(self, name):
        self.name, self.tensors = name, {}

    def case(self, name, function, *inputs, constant=(), differentiable=True):
        """`inputs` are tensors or shapes (random numbers); those numbered in `constant` get no gradient."""
        assert name + "/in0" not in self.tensors, name
        inputs = [x if torch.is_tensor(x) else random(f"{name}/in{i}", *x) for i, x in enumerate(inputs)]
        leaves = [i for i, x in enumerate(inputs) if differentiable and x.is_floating_point() and i not in constant]

        def run(dtype):
            values = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
            values = [x.clone().requires_grad_(i in leaves) for i, x in enumerate(values)]
            outputs = function(*values)
            outputs = [outputs] if torch.is_tensor(outputs) else list(outputs)
            result = {f"in{i}": x for i, x in enumerate(values)} | {f"out{i}": x for i, x in enumerate(outputs)}
            if leaves:
                roots = {i: x for i, x in enumerate(outputs) if x.is_floating_point()}
                up = {i: random(f"{name}/up{i}", *x.shape).to(dtype) for i, x in roots.items()}
                grads = torch.autograd.grad(list(roots.values()), [values[i] for i in leaves], list(up.values()))
                result |= {f"up{i}": x for i, x in up.items()} | {f"grad{i}": x for i, x in zip(leaves, grads)}
            return {key: x.detach().clone().contiguous() for key, x in result.items()}

        exact = run(torch.float64)
        for key, single in run(torch.float32).items():
            error = deviation(single, exact[key])
            if error > 3e-6:
                print(f"{self.name} {name}/{key}: PyTorch's own f32 is off by {error:.1e}")
        for i in leaves:
            assert torch.isfinite(exact[f"grad{i}"]).all(), f"{name}: gradient {i} is not finite"
        self.tensors |= {f"{name}/{key}": x for key, x in exact.items()}

    def write(self, folder):
        save_file(self.tensors, str(folder / (self.name + ".safetensors")))
