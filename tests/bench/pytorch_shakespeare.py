#!/usr/bin/env python3
"""A character-level GPT in plain PyTorch: the yardstick for our own run with the same setting.

    python3 pytorch_shakespeare.py --data FILE [--seed 1] [--threads 1] [--steps 2000]

The setting is nanoGPT's for a CPU: 4 layers, 4 heads, 128 channels, context 64, batch 12, no dropout, AdamW with
betas .9 .99, weight decay .1 on tensors of two and more axes, norm clipped to 1, learning rate warmed up over 100
steps to 1e-3 and then lowered to 1e-4 along a cosine. GPT-2 architecture with biases and a tied head, initialised
as GPT-2. Prints the mean validation loss over the whole held-out tenth of the text, and the seconds.
"""
import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

LAYERS, HEADS, C, T, B = 4, 4, 128, 64, 12
WARMUP, PEAK, LOWEST = 100, 1e-3, 1e-4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.c_attn, self.attn_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, HEADS, C // HEADS).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(C, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, C / H)
        x = x + self.attn_proj(y.transpose(1, 2).reshape(b, t, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, C), nn.Embedding(T, C)
        self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(C)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                residual = name.endswith("_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)  # (B, T, V), tied
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def learning_rate(step, steps):
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    progress = min(1.0, (step - WARMUP) / max(1, steps - WARMUP))
    return LOWEST + 0.5 * (PEAK - LOWEST) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def validation_loss(model, text):
    """Mean over every character that has a predecessor, in windows of T side by side."""
    count = (len(text) - 1) // T
    tokens, targets = text[: count * T].view(-1, T), text[1 : count * T + 1].view(-1, T)
    losses = [model(x, y) * len(x) for x, y in zip(tokens.split(64), targets.split(64))]
    return (sum(losses) / count).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    with open(options.data, encoding="utf-8") as file:
        text = file.read()
    code = {character: i for i, character in enumerate(sorted(set(text)))}
    text = torch.tensor([code[character] for character in text])
    train, held_out = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]

    model = Gpt(len(code))
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), eps=1e-8)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, seed {options.seed}, V {len(code)}, "
          f"{sum(p.numel() for p in parameters)} parameters")

    start, window = time.perf_counter(), torch.arange(T)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps)
        at = torch.randint(len(train) - T, (B, 1)) + window  # (B, T)
        loss = model(train[at], train[at + 1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step:5d}  training loss {loss.item():.4f}  {time.perf_counter() - start:6.1f} s", flush=True)
    seconds = time.perf_counter() - start
    model.eval()
    print(f"validation loss {validation_loss(model, held_out):.4f}  training {seconds:.1f} s  "
          f"{options.steps * B * T / seconds:.0f} tokens/s")


if __name__ == "__main__":
    main()
