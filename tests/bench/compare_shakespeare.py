#!/usr/bin/env python3
"""Trains nanoGPT's CPU setting here and in PyTorch, seed by seed in turn, and prints losses and times.

    tests/bench/compare_shakespeare.py --data FILE [--seeds 1 2 3] [--threads 1] [--steps 2000] [--autocast]

Ours is the quickstart (bytes, V = 256), theirs pytorch_shakespeare.py (characters, V = 65). Both report the
mean loss over the held-out last tenth. Without torch only ours runs. --autocast adds our run with matrix products
in bf16, the same batches and first weights: its loss should differ from that in f32 by no more than seeds do.
"""
import argparse
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command, loss_pattern, seconds_pattern):
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.findall(loss_pattern, text)[-1]), float(re.findall(seconds_pattern, text)[-1])


def ours_in_bf16(o, seed):
    return ours(o, seed, ["--bf16"])


def ours(o, seed, more=()):
    with tempfile.TemporaryDirectory() as out:
        return run([o.quickstart, "--data", o.data, "--output_dir", out, "--seed", str(seed), "--threads", str(o.threads),
                    "--max_steps", str(o.steps), "--eval_steps", str(o.steps), "--save_steps", str(o.steps),
                    "--eval_windows", "0", "--sample_tokens", "0", *more],
                   r"validation loss ([0-9.]+)", r"trained in ([0-9.]+) s")


def theirs(o, seed):
    return run([sys.executable, os.path.join(HERE, "pytorch_shakespeare.py"), "--data", o.data, "--seed", str(seed),
                "--threads", str(o.threads), "--steps", str(o.steps)],
               r"validation loss ([0-9.]+)", r"([0-9.]+) s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--quickstart", default="build/release/examples/quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--autocast", action="store_true")
    o = parser.parse_args()
    contestants = {"tendril": ours}
    if o.autocast:
        contestants["in bf16"] = ours_in_bf16
    if importlib.util.find_spec("torch"):
        contestants["pytorch"] = theirs
    results = {name: [] for name in contestants}
    for seed in o.seeds:
        for name, contestant in contestants.items():
            loss, seconds = contestant(o, seed)
            results[name].append((loss, seconds))
            print(f"seed {seed}  {name:8}  validation loss {loss:.4f}  {seconds:6.1f} s", flush=True)
    for name, rows in results.items():
        print(f"mean    {name:8}  validation loss {statistics.mean(r[0] for r in rows):.4f}  "
              f"{statistics.mean(r[1] for r in rows):6.1f} s")


if __name__ == "__main__":
    main()
