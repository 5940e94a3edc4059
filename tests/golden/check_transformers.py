#!/usr/bin/env python3
"""Opens a model folder that Tendril saved in transformers and compares the logits.

    python3 check_transformers.py FOLDER EXPECTED.safetensors     (needs torch, transformers, safetensors)

FOLDER holds model.safetensors and config.json of a GPT-2; EXPECTED the tensors "tokens" (B, T) and
"logits" (B, T, V) as Tendril computed them. The last case of tests/test_golden_gpt2.cpp writes both.
"""
import sys

import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, expected = sys.argv[1], load_file(sys.argv[2])
    model, report = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    problems = {kind: sorted(names) for kind, names in report.items() if names}
    if problems:
        sys.exit(f"transformers complains: {problems}")
    with torch.no_grad():
        logits = model.eval()(input_ids=expected["tokens"].long()).logits
    if logits.shape != expected["logits"].shape:
        sys.exit(f"logits have shape {tuple(logits.shape)}, expected {tuple(expected['logits'].shape)}")
    error = ((logits - expected["logits"].float()).abs().max() / logits.abs().max()).item()
    print(f"logits of {tuple(logits.shape)} differ by {error:.2e} relative to the largest")
    sys.exit(0 if error < 1e-5 else "that is too much: at most 1e-5 is rounding")


if __name__ == "__main__":
    main()
