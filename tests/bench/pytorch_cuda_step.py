#!/usr/bin/env python3
"""The PyTorch side of compare_cuda.py on a GPU, in a process of its own so that its peak memory is its own.

    pytorch_cuda_step.py --n_layer 12 --n_head 12 --n_embd 768 --vocab_size 50304 --context 1024 --batch_size 32
    pytorch_cuda_step.py --ops               single operations, named and sized as in bench_cuda

A step is forward, backward, clipping to norm 1 and fused AdamW. --weights f32 trains f32 weights under bf16 autocast
(what most people run), --weights bf16 pure bf16 weights without masters (less work than Tendril's bf16, which keeps f32
masters). Prints one JSON object on a line (--ops: one for each operation).
"""
import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F

from pytorch_step import Gpt


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50304, "context": 1024,
                        "batch_size": 32, "steps": 20, "warmup": 5}.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--weights", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--ops", action="store_true")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    return parser.parse_args()


def train(o):
    model = Gpt(o).cuda()
    if o.weights == "bf16":
        model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batch = [torch.randint(o.vocab_size, (o.batch_size, o.context), device="cuda") for _ in range(2)]
    forward = torch.compile(model) if o.compile else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=o.weights == "f32"):
            loss = forward(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    start = time.perf_counter()
    for _ in range(o.warmup):
        step()
    torch.cuda.synchronize()
    warmup = time.perf_counter() - start
    torch.cuda.reset_peak_memory_stats()
    seconds, count = [], max(1, o.steps // 5)
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            loss = step()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / count)
    assert torch.isfinite(loss), "the loss must stay finite"
    median = statistics.median(seconds)
    print(json.dumps({"step_seconds": median, "tokens_per_second": o.batch_size * o.context / median,
                      "peak_bytes": torch.cuda.max_memory_allocated(), "warmup_seconds": warmup}))


def milliseconds_of(work):
    """Median of five batches between events, as bench_cuda measures."""
    def batch(count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / count

    batch(2)
    count = min(200, max(2, int(15.0 / max(1e-3, batch(2)))))
    return statistics.median(batch(count) for _ in range(5))


def backward_of(y, inputs):
    g = torch.ones_like(y) if y.numel() == 1 else random(y.shape, y.dtype)
    return lambda: torch.autograd.grad(y, inputs, g, retain_graph=True)


def random(shape, dtype=torch.bfloat16):
    return torch.rand(shape, device="cuda", dtype=torch.float32).mul_(2).sub_(1).to(dtype)


def leaf(shape):
    return random(shape).requires_grad_()


def products():
    for name, (m, k, n) in {"qkv": (32768, 768, 2304), "proj": (32768, 768, 768), "up": (32768, 768, 3072),
                            "down": (32768, 3072, 768), "head": (8192, 768, 50304),
                            "square 8192": (8192, 8192, 8192)}.items():
        x, w, g = random((m, k)), random((k, n)), random((m, n))
        yield f"matmul {name} NN", lambda: x @ w
        yield f"matmul {name} NT", lambda: g @ w.T
        yield f"matmul {name} TN", lambda: x.T @ g


def attention():
    for B, H, T, D in [(32, 12, 1024, 64), (4, 16, 4096, 128)]:
        q, k, v = (leaf((B, H, T, D)) for _ in range(3))
        forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)  # noqa: E731
        yield f"attention T {T} D {D} forward", forward
        yield f"attention T {T} D {D} backward", backward_of(forward(), (q, k, v))


def layers():
    x, y, w, b = leaf((32768, 768)), leaf((32768, 768)), leaf((768,)), leaf((768,))
    wide, square = leaf((32768, 3072)), random((8192, 8192))
    yield "layer_norm forward", lambda: F.layer_norm(x, (768,), w, b)
    yield "layer_norm backward", backward_of(F.layer_norm(x, (768,), w, b), (x, w, b))
    yield "add", lambda: x + y
    yield "cast to f32", lambda: x.float()
    yield "transpose heads", lambda: x.view(32, 1024, 12, 64).transpose(1, 2).contiguous()
    yield "gelu_tanh forward", lambda: F.gelu(wide, approximate="tanh")
    yield "gelu_tanh backward", backward_of(F.gelu(wide, approximate="tanh"), (wide,))
    yield "sum of rows", lambda: wide.sum(0)
    yield "softmax 8192 x 8192", lambda: F.softmax(square, -1)
    table, tokens = leaf((50304, 768)), torch.randint(50304, (32768,), device="cuda")
    yield "embedding forward", lambda: F.embedding(tokens, table)
    yield "embedding backward", backward_of(F.embedding(tokens, table), (table,))


def losses():
    targets, logits = torch.randint(50304, (8192,), device="cuda"), leaf((8192, 50304))
    yield "cross_entropy forward", lambda: F.cross_entropy(logits, targets)
    yield "cross_entropy backward", backward_of(F.cross_entropy(logits, targets), (logits,))
    x, weight = leaf((8192, 768)), leaf((50304, 768))
    yield "linear_cross_entropy both ways", lambda: torch.autograd.grad(
        F.cross_entropy(x @ weight.T, targets), (x, weight))


def optimizer():
    """f32 weights: fused AdamW moves 28 bytes for each of them, as Tendril's bf16 step with masters does."""
    shapes = [(50304, 768), (1024, 768)] + 12 * [(768, 2304), (2304,), (768, 768), (768,), (768, 3072), (3072,),
                                                 (3072, 768), (768,), (768,), (768,), (768,), (768,)]
    parameters = [random(shape, torch.float32).requires_grad_() for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.rand_like(parameter)
    adamw = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    yield "AdamW step of 124 M", adamw.step
    yield "clip_grad_norm of 124 M", lambda: torch.nn.utils.clip_grad_norm_(parameters, 1e9)


def main():
    o = parse()
    torch.manual_seed(1)
    if not o.ops:
        return train(o)
    for family in [products, attention, layers, losses, optimizer]:
        for name, work in family():
            if o.only in name:
                print(json.dumps({"op": name, "milliseconds": milliseconds_of(work)}), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
