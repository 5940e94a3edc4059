#!/usr/bin/env python3
"""Times the same GPT training step here and in PyTorch, in turn, and prints the ratio.

    tests/bench/compare_pytorch.py [--bench build/release/tests/bench/bench_step] [--rounds 5]
                                   [--n_layer 4 --n_head 4 --n_embd 128 ...]

Both run the same sizes on the same number of threads: forward, backward, clipping to norm 1, AdamW,
f32 (or --bf16), no dropout, tied embeddings. Rounds alternate so that a busy machine disturbs both alike; each
prints its median step. Needs python3 with torch; without it the script says so and ends with 0.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "vocab_size": 256, "context": 64, "batch_size": 12,
         "steps": 30, "warmup": 5}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/release/tests/bench/bench_step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bf16", action="store_true", help="bf16 weights with f32 masters here, autocast there")
    for name, value in SIZES.items():
        parser.add_argument("--" + name, type=int, default=value)
    return parser.parse_args()


def make_model(torch, o):
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(o.n_embd), nn.LayerNorm(o.n_embd)
            self.attn, self.proj = nn.Linear(o.n_embd, 3 * o.n_embd), nn.Linear(o.n_embd, o.n_embd)
            self.up, self.down = nn.Linear(o.n_embd, 4 * o.n_embd), nn.Linear(4 * o.n_embd, o.n_embd)

        def forward(self, x):
            B, T, C = x.shape
            q, k, v = (t.view(B, T, o.n_head, C // o.n_head).transpose(1, 2)
                       for t in self.attn(self.ln_1(x)).split(C, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(o.vocab_size, o.n_embd), nn.Embedding(o.context, o.n_embd)
            self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(o.n_layer)), nn.LayerNorm(o.n_embd)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = self.ln_f(x) @ self.wte.weight.T
            return F.cross_entropy(logits.view(-1, o.vocab_size), targets.view(-1))

    return Gpt()


def pytorch_step_seconds(torch, model, optimizer, batch, o):
    seconds = []
    for step in range(o.warmup + o.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16):
            loss = model(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        if step >= o.warmup:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def tendril_step(o):
    command = [o.bench, "--json", "--threads", str(o.threads)]
    if o.bf16:
        command.append("--bf16")
    for name in SIZES:
        command += ["--" + name, str(getattr(o, name))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    o = parse()
    try:
        import torch
    except ImportError:
        print("python3 has no torch: nothing to compare with")
        return 0
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model = make_model(torch, o)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    batch = [torch.randint(o.vocab_size, (o.batch_size, o.context)) for _ in range(2)]

    ours, theirs = [], []
    tokens = o.batch_size * o.context
    print(f"PyTorch {torch.__version__}, {o.threads} threads, {o.rounds} rounds of {o.steps} steps")
    for number in range(o.rounds):
        result = tendril_step(o)
        ours.append(result["step_seconds"])
        theirs.append(pytorch_step_seconds(torch, model, optimizer, batch, o))
        print(f"round {number + 1}: Tendril {1e3 * ours[-1]:8.2f} ms   PyTorch {1e3 * theirs[-1]:8.2f} ms   "
              f"PyTorch / Tendril {theirs[-1] / ours[-1]:.2f}")
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"median:  Tendril {1e3 * a:8.2f} ms   PyTorch {1e3 * b:8.2f} ms   PyTorch / Tendril {b / a:.2f}")
    print(f"tokens/s: Tendril {tokens / a:.0f}, PyTorch {tokens / b:.0f}; "
          f"Tendril's peak {result['peak_bytes'] / 2**20:.1f} MiB, {result['model_gflops']:.1f} model GFLOP/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
