#!/usr/bin/env python3
"""Opens a checkpoint of the quickstart with transformers and Python's json, and computes its evaluation again.

    build/release/examples/quickstart --data TEXT --output_dir OUT --max_steps 100 --save_steps 50 --eval_steps 50 --eval_windows 0 --load_best_model_at_end false
    python3 check_checkpoint.py OUT/checkpoint-100 TEXT        (needs torch, transformers, safetensors)

Event files and the other reports: check_reporters.py.
"""
import json
import pathlib
import sys

import torch
from transformers import GPT2LMHeadModel


def held_out_loss(model, text, context):
    held_out = text[len(text) // 10 * 9:]
    tokens = torch.tensor(list(held_out), dtype=torch.long)
    windows = (len(tokens) - 1) // context
    inputs = tokens[:windows * context].view(windows, context)
    targets = tokens[1:windows * context + 1].view(windows, context)
    losses = []
    with torch.no_grad():
        for i in range(0, windows, 64):
            logits = model(input_ids=inputs[i:i + 64]).logits
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[i:i + 64].flatten(), reduction="sum"))
    return (sum(losses) / (windows * context)).item()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_bytes()
    state = json.loads((folder / "trainer_state.json").read_text())
    arguments = json.loads((folder / "training_args.json").read_text())
    model, report = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    problems = {kind: sorted(names) for kind, names in report.items() if names}
    if problems:
        sys.exit(f"transformers complains: {problems}")
    step = state["global_step"]
    logged = [row["eval_loss"] for row in state["log_history"] if "eval_loss" in row and row["step"] == step]
    computed = held_out_loss(model.eval(), text, model.config.n_positions)
    print(f"step {step}, {len(state['log_history'])} rows, {len(arguments)} arguments; eval_loss logged {logged[-1]:.6f}, by transformers {computed:.6f}")
    sys.exit(0 if abs(logged[-1] - computed) < 1e-5 * computed else "they differ by more than rounding")


if __name__ == "__main__":
    main()
