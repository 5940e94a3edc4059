#!/usr/bin/env python3
"""Times the same training steps here and in PyTorch, in turn, and prints a table of time and memory.

    tests/bench/compare_pytorch.py                           all sizes below, f32, one and all threads
    tests/bench/compare_pytorch.py gpt-384 --autocast        bf16 autocast on both sides
    tests/bench/compare_pytorch.py gpt-384 gpt-124m --bf16   these two; here bf16 weights with f32 masters, there autocast
    tests/bench/compare_pytorch.py gpt-384 --compile         against torch.compile

A step is forward, backward, clipping to norm 1 and AdamW, no dropout, tied embeddings (mlp: no clipping, SGD). Every
round runs each side once, in a process of its own, so that a busy machine disturbs both alike; the figures are
medians of the rounds. Ratios above 1 mean that Tendril is faster. Memory is the peak resident size of the process,
so Python and its libraries count, as they do for whoever trains with them. Needs python3 with torch; without it the script says so and
ends with 0.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def gpt(n_layer, n_head, n_embd, vocab_size, context, batch_size, steps, warmup):
    return dict(locals())


SIZES = {
    "mlp": {"steps": 2000, "warmup": 200},  # 784-128-10, 32 samples
    "gpt-2x64": gpt(2, 2, 64, 256, 32, 4, 300, 30),
    "gpt-4x128": gpt(4, 4, 128, 256, 64, 12, 20, 3),
    "gpt-384": gpt(6, 6, 384, 65, 256, 12, 3, 1),
    "gpt-124m": gpt(12, 12, 768, 50257, 256, 4, 2, 1),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", help=", ".join(SIZES) + "; all without any")
    parser.add_argument("--build", default="build/release", help="where Tendril was built")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--bf16", action="store_true", help="bf16 weights with f32 masters here, autocast in PyTorch")
    parser.add_argument("--autocast", action="store_true", help="autocast to bf16 on both sides")
    parser.add_argument("--compile", action="store_true", help="torch.compile on PyTorch's side")
    options = parser.parse_args()
    for size in options.sizes:
        if size not in SIZES:
            parser.error(f"unknown size {size}; choose from {', '.join(SIZES)}")
    if options.bf16 or options.autocast:  # bench_mlp is about small steps, where f32 is as good
        options.sizes = [size for size in options.sizes or SIZES if size != "mlp"]
    return options


def measure(command, size, precision, threads):
    command = command + ["--threads", str(threads)] + precision
    for name, value in SIZES[size].items():
        command += ["--" + name, str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(results, key):
    return statistics.median(result[key] for result in results)


def compare(size, options, threads):
    kind = "mlp" if size == "mlp" else "gpt"
    ours_command = [f"{options.build}/tests/bench/bench_" + {"mlp": "mlp", "gpt": "step"}[kind], "--json"]
    theirs_command = [sys.executable, str(HERE / "pytorch_step.py"), "--model", kind]
    if options.compile:
        theirs_command.append("--compile")
    narrow = options.bf16 or options.autocast
    our_precision = ["--autocast"] if options.autocast else ["--bf16"] if options.bf16 else []
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(measure(ours_command, size, our_precision, threads))
        theirs.append(measure(theirs_command, size, ["--bf16"] if narrow else [], threads))
    a, b = median(ours, "step_seconds"), median(theirs, "step_seconds")
    resident, their_resident = median(ours, "resident_bytes"), median(theirs, "resident_bytes")
    print(f"| {size} | {'autocast' if options.autocast else 'bf16' if options.bf16 else 'f32'} | {threads} | {1e3 * a:.3f} ms | {1e3 * b:.3f} ms | {b / a:.2f} "
          f"| {median(ours, 'model_gflops'):.1f} | {resident / 2**20:.0f} | {their_resident / 2**20:.0f} "
          f"| {resident / their_resident:.2f} |", flush=True)


def main():
    options = parse()
    if importlib.util.find_spec("torch") is None:
        print("python3 has no torch: nothing to compare with")
        return 0
    print(f"{options.rounds} rounds in turn; PyTorch {'with torch.compile' if options.compile else 'eager'}")
    print("| step | dtype | threads | Tendril | PyTorch | ratio | model GFLOP/s | MiB | PyTorch's MiB | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes or SIZES:
        for threads in options.threads:
            compare(size, options, threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
