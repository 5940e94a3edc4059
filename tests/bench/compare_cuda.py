#!/usr/bin/env python3
"""Tendril beside PyTorch on a GPU, in turn, in two tables: whole training steps, and single operations.

    tests/bench/compare_cuda.py                                  GPT-2 124M at 32 x 1024 tokens, bf16
    tests/bench/compare_cuda.py --build DIR --rounds 3 --steps 20
    tests/bench/compare_cuda.py --compile none                   without torch.compile, which takes a minute to start
    tests/bench/compare_cuda.py --ops-only

Every round runs each side once, in a process of its own; the figures are medians of the rounds. torch.compile's figure
is taken last, alone and once. Ratios above 1 mean that Tendril is faster, or needs less memory. Tendril trains bf16
weights with f32 masters; PyTorch f32 weights under autocast, and pure bf16 weights without masters. Every run has a time
limit; one that fails shows as such and the others go on, but the exit status is then 1.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
FAILED = []  # commands
TORCH = [sys.executable, str(HERE / "pytorch_cuda_step.py")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/cuda/tests/bench", help="the folder of bench_step and bench_cuda")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--limit", type=int, default=60, help="seconds for one run")
    parser.add_argument("--compile-limit", type=int, default=150, help="seconds for the run with torch.compile")
    parser.add_argument("--compile", choices=["none", "f32", "bf16", "both"], default="f32",
                        help="which weights torch.compile trains")
    parser.add_argument("--steps-only", action="store_true")
    parser.add_argument("--ops-only", action="store_true")
    return parser.parse_args()


def lines_of(command, limit):
    """The JSON objects that a command prints; those printed before it failed or ran out of time count."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    problem = None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
        text = done.stdout
        if done.returncode != 0:
            problem = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired as late:
        text, problem = late.stdout or "", f"stopped after {limit} s"
        if isinstance(text, bytes):  # what Python 3.12 gives, text=True or not
            text = text.decode()
    except OSError as missing:
        text, problem = "", str(missing)
    if problem:
        FAILED.append(command)
        print(f"{pathlib.Path(command[0]).name} {' '.join(command[1:])}: {problem}", file=sys.stderr)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def median(results, key):
    return statistics.median(result[key] for result in results) if results else None


def compare_steps(o):
    shape = ["--n_layer", "12", "--n_head", "12", "--n_embd", "768", "--vocab_size", "50304", "--context",
             str(o.context), "--batch_size", str(o.batch_size), "--steps", str(o.steps), "--warmup", "5"]
    sides = {"Tendril bf16, f32 masters": [f"{o.build}/bench_step", "--device", "cuda", "--bf16", "--json"] + shape,
             "PyTorch f32, autocast": TORCH + shape + ["--weights", "f32"],
             "PyTorch bf16": TORCH + shape + ["--weights", "bf16"]}
    results = {name: [] for name in sides}
    for _ in range(o.rounds):
        for name, command in sides.items():
            results[name] += lines_of(command, o.limit)
    for weights in ["f32", "bf16"]:
        if o.compile in [weights, "both"]:
            name = f"PyTorch {weights}{', autocast' if weights == 'f32' else ''}, torch.compile"
            results[name] = lines_of(TORCH + shape + ["--weights", weights, "--compile"], o.compile_limit)
    ours = results["Tendril bf16, f32 masters"]
    print(f"GPT-2 124M, {o.batch_size} x {o.context} tokens, median of {o.rounds} rounds of {o.steps} steps")
    print("| training step | ms | tokens/s | Tendril is faster by | peak GiB | its memory is smaller by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, result in results.items():
        if not result:
            print(f"| {name} | failed | | | | |")
            continue
        seconds, peak = median(result, "step_seconds"), median(result, "peak_bytes")
        faster = f"{seconds / median(ours, 'step_seconds'):.2f}" if ours else "?"
        smaller = f"{peak / median(ours, 'peak_bytes'):.2f}" if ours else "?"
        print(f"| {name} | {1e3 * seconds:.2f} | {o.batch_size * o.context / seconds:.0f} | {faster} "
              f"| {peak / 2**30:.2f} | {smaller} |", flush=True)


def compare_ops(o):
    ours, theirs = {}, {}
    for _ in range(o.rounds):
        for side, command in [(ours, [f"{o.build}/bench_cuda", "--json"]), (theirs, TORCH + ["--ops"])]:
            for line in lines_of(command, o.limit):
                side.setdefault(line["op"], []).append(line)
    copy = median(ours.get("copy", []), "gigabytes_per_second")
    if copy:
        print(f"\n{ours['copy'][0]['gpu']}: a copy of 1 GiB moves {copy:.0f} GB/s")
    print("| operation | Tendril ms | PyTorch ms | ratio | TFLOP/s | GB/s | of copy |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in [name for name in {**ours, **theirs} if name != "copy"]:
        a, b = median(ours.get(name, []), "milliseconds"), median(theirs.get(name, []), "milliseconds")
        cells = [f"{a:.4f}" if a else "failed", f"{b:.4f}" if b else "", f"{b / a:.2f}" if a and b else ""]
        if a:
            rate, bandwidth = median(ours[name], "tflops"), median(ours[name], "gigabytes_per_second")
            cells += [f"{rate:.0f}" if rate else "", f"{bandwidth:.0f}", f"{100 * bandwidth / copy:.0f} %"]
        else:
            cells += ["", "", ""]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main():
    o = parse()
    if not o.ops_only:
        compare_steps(o)
    if not o.steps_only:
        compare_ops(o)
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
