"""Writes apollo.safetensors: parameters after 20 steps of APOLLO, in f64, from NumPy alone.

    pip install numpy safetensors
    python apollo.py

"tall", "wide" and "vector" are the parameters at the start, with ".grad" the gradients of 20 steps (f32). Each
CASE/tall, CASE/wide and CASE/vector holds the parameters after the steps of KEPT, CASE/limited how often the growth of
tall and of wide was limited. Random directions come from the library's own generator, written out here once more:
Philox 4x32-10 (Salmon et al. 2011) and Box-Muller.
"""
import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

STEPS = 20
KEPT = (1, 2, 10, 20)
SEED = 42
MASK = 0xFFFFFFFF
NOISE = 4  # the stream's number


def philox(counter, key):
    counter, key = list(counter), list(key)
    for _ in range(10):
        one, two = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(two >> 32) ^ counter[1] ^ key[0], two & MASK, (one >> 32) ^ counter[3] ^ key[1], one & MASK]
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return counter


def normal(shape, name, step):
    """Standard normal numbers for a parameter's name (by FNV-1a) and a step."""
    seed = 0xCBF29CE484222325
    for letter in name.encode():
        seed = ((seed ^ letter) * 0x100000001B3) & (1 << 64) - 1
    seed ^= SEED
    values = []
    while len(values) < math.prod(shape):
        words = philox((len(values) // 4, 0, step, NOISE << 16), (seed & MASK, seed >> 32))
        for a, b in (words[:2], words[2:]):
            radius, angle = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
            values += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(values[:math.prod(shape)]).reshape(shape)


def singular(grad, rank, left):
    """The leading singular vectors as columns (or rows), the largest entry of each positive."""
    u = np.linalg.svd(grad if left else grad.T, full_matrices=False)[0][:, :rank]
    u = u * np.sign(u[np.abs(u).argmax(axis=0), range(rank)])
    return u if left else u.T


class Apollo:
    def __init__(self, name, param, lr, rank=None, gap=7, scale=1.0, proj="random", proj_type="std",
                 scale_type="channel", front=False, limited=True, betas=(0.9, 0.999), eps=1e-6, decay=0.0):
        self.name, self.p, self.lr, self.gap, self.scale, self.proj = name, param.copy(), lr, gap, scale, proj
        self.per_channel, self.front, self.limited = scale_type == "channel", front, limited
        self.betas, self.eps, self.decay = betas, eps, decay
        self.t, self.m, self.v, self.before, self.cuts = 0, 0.0, 0.0, None, 0
        self.rank = min(rank, *param.shape) if rank and param.ndim == 2 else None
        tall = param.ndim == 2 and param.shape[0] >= param.shape[1]
        self.left = {"std": not tall, "reverse_std": tall, "left": True, "right": False}[proj_type]

    def project(self, grad):
        if self.t % self.gap == 0:
            shape = (grad.shape[0], self.rank) if self.left else (self.rank, grad.shape[1])
            if self.proj == "svd":
                self.basis = singular(grad, self.rank, self.left)
            else:
                self.basis = normal(shape, self.name, self.t) / math.sqrt(self.rank)
        return self.basis.T @ grad if self.left else grad @ self.basis.T

    def scaled(self, grad, small, adapted):
        axis = (0 if self.left else 1) if self.per_channel else None
        length = lambda x: np.linalg.norm(x, axis=axis, keepdims=True)
        update = grad * (length(adapted) / (length(small) + 1e-8))
        if self.front:
            update = update * math.sqrt(self.scale)
        if self.limited:
            size = np.linalg.norm(update)
            if self.before is not None:
                limiter = max(size / (self.before + 1e-8), 1.01) / 1.01
                self.cuts += limiter > 1.0
                update, size = update / limiter, size / limiter
            self.before = size
        return update if self.front else update * math.sqrt(self.scale)

    def step(self, grad):
        small = self.project(grad) if self.rank else grad
        self.t += 1
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * small
        self.v = beta2 * self.v + (1 - beta2) * small**2
        update = self.m / (np.sqrt(self.v) + self.eps)
        if self.rank:
            update = self.scaled(grad, small, update)
        self.p -= self.lr * math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t) * update
        self.p -= self.lr * self.decay * self.p


# As in the C++ test.
CASES = {
    "channel": dict(lr=0.02, rank=3),
    "channel_all": dict(lr=0.02, rank=2, gap=3, scale=4.0, front=True, betas=(0.8, 0.95), eps=1e-3, decay=0.1),
    "mini": dict(lr=0.001, rank=1, scale=128.0, scale_type="tensor"),
    "reverse": dict(lr=0.02, rank=2, proj_type="reverse_std", scale=2.0),
    "unlimited": dict(lr=0.02, rank=2, proj_type="left", limited=False),
    "svd": dict(lr=0.02, rank=2, proj="svd"),
    "clamped": dict(lr=0.02, rank=100),
}


def main():
    draw = np.random.default_rng(23)
    shapes = {"tall": (9, 4), "wide": (4, 9), "vector": (5,)}
    start = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    # Some steps are much larger than the ones before.
    sizes = np.where(np.arange(STEPS) % 6 == 4, 5.0, 1.0)
    gradients = {name: (draw.normal(size=(STEPS, *shape)) * sizes.reshape(-1, *[1] * len(shape))).astype(np.float32)
                 for name, shape in shapes.items()}
    tensors = dict(start) | {name + ".grad": x for name, x in gradients.items()}
    for case, options in CASES.items():
        cuts = []
        for name, param in start.items():
            optimizer = Apollo(name, param.astype(np.float64), **options)
            kept = []
            for step in range(STEPS):
                optimizer.step(gradients[name][step].astype(np.float64))
                if step + 1 in KEPT:
                    kept.append(optimizer.p.copy())
            tensors[f"{case}/{name}"] = np.stack(kept)
            cuts.append(optimizer.cuts)
        tensors[f"{case}/limited"] = np.array(cuts[:2])
        print(case, cuts)
    save_file(tensors, str(pathlib.Path(__file__).with_name("apollo.safetensors")))


if __name__ == "__main__":
    main()
