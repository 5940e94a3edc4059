#!/usr/bin/env python3
"""One measurement of the PyTorch side of compare_pytorch.py, in a process of its own so that its peak memory is
its own: prints {"step_seconds": ..., "resident_bytes": ...} on one line."""
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["gpt", "mlp"], default="gpt")
    for name in ["n_layer", "n_head", "n_embd", "vocab_size", "context", "batch_size", "steps", "warmup", "threads"]:
        parser.add_argument("--" + name, type=int)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


class Block(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2)
                   for t in self.attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.vocab_size = o.vocab_size
        self.wte, self.wpe = nn.Embedding(o.vocab_size, o.n_embd), nn.Embedding(o.context, o.n_embd)
        self.blocks = nn.ModuleList(Block(o.n_head, o.n_embd) for _ in range(o.n_layer))
        self.ln_f = nn.LayerNorm(o.n_embd)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.T
        return F.cross_entropy(logits.view(-1, self.vocab_size), targets.view(-1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(784, 128), nn.Linear(128, 10)

    def forward(self, samples, classes):
        return F.cross_entropy(self.down(F.relu(self.up(samples))), classes)


def main():
    o = parse()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    if o.model == "mlp":
        model = Mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batch = [torch.randn(32, 784), torch.randint(10, (32,))]
    else:
        model = Gpt(o)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
        batch = [torch.randint(o.vocab_size, (o.batch_size, o.context)) for _ in range(2)]
    forward = torch.compile(model) if o.compile else model
    seconds = []
    for _ in range(o.warmup + o.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16):
            loss = forward(*batch)
        loss.backward()
        if o.model == "gpt":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            loss.item()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"step_seconds": statistics.median(seconds[o.warmup:]),
                      "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
