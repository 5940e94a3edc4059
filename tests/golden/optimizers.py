"""Writes optimizers.safetensors: parameters after many steps of reference optimizers, in f64.

    pip install torch transformers schedulefree torch-optimi safetensors
    python optimizers.py

"matrix" and "vector" are the parameters at the start, "matrix.grad" and "vector.grad" the gradients of 100
steps (f32). Each case has NAME/matrix and NAME/vector: both parameters after the steps of KEPT. Where no
package has the rule (AdEMAMix, and Muon in full precision) it is written out below from the paper.
"""
import math
import pathlib

import numpy as np
import optimi
import schedulefree
import torch
from safetensors.torch import save_file
from transformers.optimization import Adafactor

STEPS = 100
KEPT = (1, 2, 10, 100)


class AdEMAMix:
    """Pagliardini, Ablin, Grangier 2024, algorithm 1 and the schedules of its section 3."""

    def __init__(self, params, lr, betas, alpha, weight_decay, eps=1e-8, warmup=0):
        self.params, self.lr, self.betas, self.alpha = list(params), lr, betas, alpha
        self.weight_decay, self.eps, self.warmup, self.t = weight_decay, eps, warmup, 0
        self.state = [[torch.zeros_like(p) for _ in range(3)] for p in self.params]

    @torch.no_grad()
    def step(self):
        self.t += 1
        beta1, beta2, beta3 = self.betas
        alpha = self.alpha
        if self.t < self.warmup:
            part = self.t / self.warmup
            alpha *= part
            start, end = math.log(beta1), math.log(beta3)
            beta3 = min(math.exp(start * end / ((1 - part) * end + part * start)), beta3)
        for p, (fast, slow, square) in zip(self.params, self.state):
            fast.copy_(beta1 * fast + (1 - beta1) * p.grad)
            slow.copy_(beta3 * slow + (1 - beta3) * p.grad)
            square.copy_(beta2 * square + (1 - beta2) * p.grad**2)
            mean = fast / (1 - beta1**self.t) + alpha * slow
            root = (square / (1 - beta2**self.t)).sqrt() + self.eps
            p -= self.lr * (mean / root + self.weight_decay * p)


class Muon:
    """Jordan 2024, with the Newton-Schulz steps in the parameters' own precision."""

    def __init__(self, matrix, vector, lr, momentum, weight_decay, nesterov, rms=False):
        self.p, self.lr, self.momentum, self.weight_decay = matrix, lr, momentum, weight_decay
        self.nesterov, self.rms = nesterov, rms
        self.buffer = torch.zeros_like(matrix)
        self.rest = torch.optim.AdamW([vector], lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)

    @torch.no_grad()
    def step(self):
        grad = self.p.grad
        self.buffer = self.momentum * self.buffer + (1 - self.momentum) * grad
        x = self.momentum * self.buffer + (1 - self.momentum) * grad if self.nesterov else self.buffer
        rows, columns = x.shape
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            if rows > columns:
                a = x.T @ x
                x = 3.4445 * x + x @ (-4.7750 * a + 2.0315 * a @ a)
            else:
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        scale = 0.2 * max(rows, columns) ** 0.5 if self.rms else max(1, rows / columns) ** 0.5
        self.p.mul_(1 - self.lr * self.weight_decay)
        self.p -= self.lr * scale * x
        self.rest.step()


def plain(make):
    """optimi without its Triton kernels."""
    return lambda params, **options: make(params, triton=False, **options)


def both(make, **options):
    return lambda matrix, vector: make([matrix, vector], **options)


CASES = {
    "sgd": both(torch.optim.SGD, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.05),
    "adamw": both(torch.optim.AdamW, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1),
    "adam": both(torch.optim.Adam, lr=0.02, weight_decay=0.1),
    "adam_amsgrad": both(torch.optim.Adam, lr=0.02, betas=(0.8, 0.9), amsgrad=True, maximize=True),
    "adagrad": both(torch.optim.Adagrad, lr=0.1),
    "adagrad_all": both(torch.optim.Adagrad, lr=0.1, lr_decay=0.1, weight_decay=0.05, eps=1e-3,
                        initial_accumulator_value=0.2, maximize=True),
    "rmsprop": both(torch.optim.RMSprop, lr=0.01),
    "rmsprop_momentum": both(torch.optim.RMSprop, lr=0.01, momentum=0.9, maximize=True),
    "rmsprop_centered": both(torch.optim.RMSprop, lr=0.01, alpha=0.9, centered=True, eps=1e-4),
    "rmsprop_all": both(torch.optim.RMSprop, lr=0.01, alpha=0.9, centered=True, momentum=0.5, weight_decay=0.05),
    "lion": both(plain(optimi.Lion), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0),
    "lion_decay": both(plain(optimi.Lion), lr=0.0078125, betas=(0.8, 0.95), weight_decay=0.1),
    "adafactor": both(Adafactor, lr=0.01, scale_parameter=False, relative_step=False),
    "adafactor_relative": both(Adafactor, lr=None),
    "adafactor_warmup": both(Adafactor, lr=None, warmup_init=True, clip_threshold=0.5, decay_rate=-0.6),
    "adafactor_all": both(Adafactor, lr=0.02, relative_step=False, beta1=0.9, weight_decay=0.1, eps=(1e-4, 0.2)),
    "ademamix": both(AdEMAMix, lr=0.01, betas=(0.9, 0.999, 0.9999), alpha=5.0, weight_decay=0.01),
    "ademamix_warmup": both(AdEMAMix, lr=0.01, betas=(0.8, 0.95, 0.999), alpha=8.0, weight_decay=0.1, warmup=60),
    "stable_adamw": both(plain(optimi.StableAdamW), lr=0.005, betas=(0.9, 0.99), weight_decay=0.01, eps=1e-6),
    "stable_adamw_decoupled": both(plain(optimi.StableAdamW), lr=0.005, betas=(0.8, 0.95), weight_decay=0.001, eps=1e-2,
                                   decouple_lr=True, max_lr=0.04),
    "schedule_free_adamw": both(schedulefree.AdamWScheduleFree, lr=0.02),
    "schedule_free_adamw_all": both(schedulefree.AdamWScheduleFree, lr=0.02, betas=(0.95, 0.99), weight_decay=0.1,
                                    warmup_steps=20, r=0.5, weight_lr_power=1.0),
    "schedule_free_sgd": both(schedulefree.SGDScheduleFree, lr=0.1),
    "schedule_free_sgd_all": both(schedulefree.SGDScheduleFree, lr=0.1, momentum=0.8, weight_decay=0.1, warmup_steps=20,
                                  r=0.5, weight_lr_power=1.0),
    "muon": lambda matrix, vector: Muon(matrix, vector, lr=0.02, momentum=0.95, weight_decay=0.0, nesterov=True),
    "muon_all": lambda matrix, vector: Muon(matrix, vector, lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=False,
                                            rms=True),
}


def run(make, start, gradients):
    """The parameters after the kept steps; schedule-free ones both as trained and (last) as evaluated."""
    leaves = [torch.nn.Parameter(x.double().clone()) for x in start]
    optimizer = make(*leaves)
    if hasattr(optimizer, "train"):
        optimizer.train()
    kept = [[], []]
    for step in range(1, STEPS + 1):
        for leaf, grads in zip(leaves, gradients):
            leaf.grad = grads[step - 1].double().clone()
        optimizer.step()
        if step in KEPT:
            for list_, leaf in zip(kept, leaves):
                list_.append(leaf.detach().clone())
    if hasattr(optimizer, "eval"):
        optimizer.eval()
        for list_, leaf in zip(kept, leaves):
            list_.append(leaf.detach().clone())
    return [torch.stack(list_) for list_ in kept]


def main():
    draw = np.random.default_rng(11)
    shapes = {"matrix": (6, 4), "vector": (5,)}
    start = {name: torch.from_numpy(draw.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()}
    gradients = {name: torch.from_numpy((draw.normal(size=(STEPS, *shape)) + 0.5).astype(np.float32))
                 for name, shape in shapes.items()}
    tensors = dict(start) | {name + ".grad": x for name, x in gradients.items()}
    for case, make in CASES.items():
        for name, values in zip(shapes, run(make, start.values(), gradients.values())):
            tensors[f"{case}/{name}"] = values.contiguous()
    save_file(tensors, str(pathlib.Path(__file__).with_name("optimizers.safetensors")))


if __name__ == "__main__":
    main()
