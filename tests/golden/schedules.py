"""Writes schedules.json: learning rates of transformers' and PyTorch's own schedules.

    pip install torch transformers
    python schedules.py

Each case has the arguments of make_lr_scheduler and a factor per step; those of reduce_lr_on_plateau have
the metrics that were observed one after the other, and the factor after each. Where the original climbs
again beyond the end of training, the value at the end is repeated: that is what Tendril does.
"""
import json
import math
import pathlib
import random

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import get_scheduler

BASE = 5e-5
TOTAL, BEYOND = 30, 36
CLIMBS = {"cosine": TOTAL, "cosine_with_min_lr": TOTAL, "cosine_warmup_with_min_lr": TOTAL - 1}


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)


def step_case(name, warmup=7, total=TOTAL, **kwargs):
    scheduler = get_scheduler(name, optimizer(), num_warmup_steps=warmup, num_training_steps=total,
                              scheduler_specific_kwargs=kwargs)
    last = CLIMBS.get(name, BEYOND)
    factors = [float(scheduler.lr_lambdas[0](min(step, last))) for step in range(BEYOND)]
    return {"name": name, "warmup": warmup, "total": total, "base_lr": BASE, "kwargs": kwargs, "factors": factors}


def timescale_case(warmup, timescale):
    """get_scheduler drops the timescale, so the schedule is asked directly."""
    from transformers.optimization import get_inverse_sqrt_schedule
    scheduler = get_inverse_sqrt_schedule(optimizer(), warmup, timescale)
    factors = [float(scheduler.lr_lambdas[0](step)) for step in range(BEYOND)]
    return {"name": "inverse_sqrt", "warmup": warmup, "total": TOTAL, "base_lr": BASE,
            "kwargs": {"timescale": timescale}, "factors": factors}


def plateau_case(metrics, **kwargs):
    target = optimizer()
    scheduler = ReduceLROnPlateau(target, **kwargs)
    factors = []
    for metric in metrics:
        scheduler.step(metric)
        factors.append(target.param_groups[0]["lr"] / BASE)
    texts = [None if math.isnan(metric) else metric for metric in metrics]
    return {"name": "reduce_lr_on_plateau", "base_lr": BASE, "kwargs": kwargs, "metrics": texts, "factors": factors}


def main():
    cases = [step_case("linear"), step_case("linear", warmup=0), step_case("cosine"),
             step_case("cosine", num_cycles=1.5), step_case("cosine_with_restarts"),
             step_case("cosine_with_restarts", num_cycles=3), step_case("polynomial"),
             step_case("polynomial", lr_end=1e-5, power=2.5), step_case("constant"),
             step_case("constant_with_warmup"), step_case("inverse_sqrt"), step_case("inverse_sqrt", warmup=0),
             timescale_case(7, 20), timescale_case(0, 3),
             step_case("cosine_with_min_lr", min_lr=1e-5), step_case("cosine_with_min_lr", min_lr_rate=0.25),
             step_case("cosine_with_min_lr", min_lr_rate=0.25, num_cycles=1.5),
             step_case("cosine_warmup_with_min_lr", min_lr=1e-5),
             step_case("cosine_warmup_with_min_lr", min_lr_rate=0.25, warmup_lr_rate=0.1),
             step_case("warmup_stable_decay", num_decay_steps=10)]
    for ramp in ("linear", "cosine", "1-sqrt"):
        cases.append(step_case("warmup_stable_decay", num_decay_steps=9, warmup_type=ramp, decay_type=ramp,
                               min_lr_ratio=0.125))
    cases.append(step_case("warmup_stable_decay", num_decay_steps=12, num_stable_steps=4, num_cycles=1.5))
    draw = random.Random(7)
    noisy = [round(2.0 / (1 + i / 9) + 0.3 * draw.random(), 3) for i in range(60)]
    flat = [1.0] * 40
    cases += [plateau_case(noisy, patience=2), plateau_case(noisy, mode="max", patience=1, factor=0.5, cooldown=3),
              plateau_case(noisy, threshold=0.1, threshold_mode="abs", patience=1, factor=0.7),
              plateau_case([-x for x in noisy], mode="max", threshold=0.05, patience=0, factor=0.9),
              plateau_case(flat), plateau_case(flat, patience=0, min_lr=2e-6, cooldown=2),
              plateau_case(flat, patience=0, factor=0.3, eps=1e-6),
              plateau_case([1.0, math.nan, math.nan, 0.5, math.nan, 0.6], patience=1)]
    path = pathlib.Path(__file__).with_name("schedules.json")
    path.write_text("[" + ",\n".join(json.dumps(case) for case in cases) + "]\n")


if __name__ == "__main__":
    main()
