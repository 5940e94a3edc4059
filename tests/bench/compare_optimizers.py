#!/usr/bin/env python3
"""Trains the quickstart's model once with each optimizer and prints a table: loss on the held-out tenth, speed, memory.

    tests/bench/compare_optimizers.py --data FILE [--steps 500] [--only adamw_torch muon ...]

Learning rates are usual ones for each method and not tuned. Bytes per parameter are those that stay after training beyond the
weights (the optimizer's state), from the Trainer's memory metrics; the peak counts all tensors above the weights.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# name: learning rate, further arguments
OPTIMIZERS = {
    "adamw_torch": (1e-3, []),
    "adam": (1e-3, []),
    "sgd": (1e-1, ["--optim_args", "momentum=0.9"]),
    "adagrad": (1e-2, []),
    "rmsprop": (1e-3, []),
    "adafactor": (1e-3, []),
    "lion_32bit": (2e-4, []),
    "ademamix": (1e-3, []),
    "stable_adamw": (1e-3, []),
    "schedule_free_adamw": (3e-3, ["--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}"]),
    "schedule_free_sgd": (1.0, ["--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}"]),
    "muon": (1e-3, []),
    "adamw_8bit": (1e-3, []),
    "lion_8bit": (2e-4, []),
    "galore_adamw": (1e-3, ["--optim_target_modules", "attn", "mlp", "--optim_args", "rank=32,scale=1.0"]),
    "galore_adamw_layerwise": (1e-3, ["--optim_target_modules", "attn", "mlp", "--optim_args", "rank=32,scale=1.0"]),
    "galore_adamw_8bit": (1e-3, ["--optim_target_modules", "attn", "mlp", "--optim_args", "rank=32,scale=1.0"]),
    "apollo_adamw": (1e-3, ["--optim_target_modules", "attn", "mlp", "--optim_args", "rank=32"]),
    "adamw_torch_layerwise": (1e-3, []),
    "lomo": (1e-1, []),
    "adalomo": (1e-2, []),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--quickstart", default="build/release/examples/quickstart")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--only", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    return parser.parse_args()


def run(name, options):
    rate, more = OPTIMIZERS[name]
    with tempfile.TemporaryDirectory() as out:
        command = [options.quickstart, "--data", options.data, "--output_dir", out, "--optim", name, "--learning_rate", str(rate),
                   "--max_steps", str(options.steps), "--eval_steps", str(options.steps), "--logging_steps", "50",
                   "--save_strategy", "no", "--load_best_model_at_end", "false", "--skip_memory_metrics", "false",
                   "--eval_windows", "0", "--sample_tokens", "0", "--report_to", "jsonl", *more]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{name}: {done.stderr}")
        rows = [json.loads(line) for line in pathlib.Path(out, "log.jsonl").read_text().splitlines()]
    parameters = int(done.stdout.split("model: ")[1].split()[0])
    last = [row for row in rows if "loss" in row][-1]
    evaluation = [row for row in rows if "eval_loss" in row][0]
    summary = [row for row in rows if "train_loss" in row][-1]
    return {"rate": rate, "loss": evaluation["eval_loss"], "tokens": last["train_tokens_per_second"],
            "kept": summary["train_mem_cpu_alloc_delta"] / parameters,
            "peak": (summary["train_mem_cpu_alloc_delta"] + summary["train_mem_cpu_peaked_delta"]) / 2**20}


def main():
    options = parse()
    print("| optim | learning rate | loss | tokens/s | kept bytes per parameter | peak MiB above the weights |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.only:
        r = run(name, options)
        print(f"| {name} | {r['rate']:g} | {r['loss']:.4f} | {r['tokens']:.0f} | {r['kept']:.2f} | {r['peak']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
