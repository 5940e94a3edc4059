"""Ten training steps of a tiny GPT-2 of transformers; generate.py calls golden_gpt2."""
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

STEPS, BATCHES, B, T, V = 10, 2, 3, 24, 97


def gpt2_model(dtype):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=V, n_positions=32, n_embd=48, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
                        attn_pdrop=0.0, attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    generator = np.random.default_rng(2019)
    with torch.no_grad():  # far from the initialisation: every bias, every gain and attention itself matters
        for name, parameter in sorted(model.named_parameters()):
            values = generator.standard_normal(tuple(parameter.shape)) * (0.15 if parameter.dim() >= 2 else 0.1)
            parameter.copy_(torch.from_numpy((values + ("ln_" in name and "weight" in name)).astype(np.float32)))
    return model.to(dtype)


def gpt2_batches():
    """Random tokens (batch, B, T) and targets, already shifted; some targets are ignored (-100)."""
    generator = np.random.default_rng(42)
    text = torch.from_numpy(generator.integers(0, V, (BATCHES, B, T + 1)))
    tokens, targets = text[..., :-1].contiguous(), text[..., 1:].contiguous()
    targets[torch.from_numpy(generator.random(targets.shape) < 0.15)] = -100
    return tokens, targets


def gpt2_training(model):
    """Ten steps of AdamW; returns (logits, loss, gradients) of the first, all losses and gradient norms."""
    tokens, targets = gpt2_batches()
    named = dict(model.named_parameters())
    groups = [{"params": [p for p in named.values() if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in named.values() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    trace, norms, first = [], [], None
    for step in range(STEPS):
        batch = step % BATCHES
        logits = model(input_ids=tokens[batch]).logits
        loss = F.cross_entropy(logits.reshape(-1, V), targets[batch].reshape(-1), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = logits.detach().clone(), loss.detach().clone(), {n: p.grad.clone() for n, p in named.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(named.values(), 1.0).item())
        optimizer.step()
        trace.append(loss.item())
    return first, trace, norms


def golden_gpt2(folder):
    """weights/NAME, tokens and targets (batch, B, T), logits and loss of the first batch, grad/NAME before
    clipping, losses and grad_norms (step), final/NAME. Step s trains on batch s % 2. NAME is that of
    transformers; lm_head is tied and left out.
    AdamW: lr 1e-3, betas .9 .95, eps 1e-8, decay .1 on tensors of two and more axes; norm clipped to 1.

    The keys' part of c_attn.bias (columns C to 2C) does not influence the loss: its gradient is rounding
    noise, which AdamW blows up to steps of lr. Its final values are nobody's truth."""
    model = gpt2_model(torch.float32)
    tokens, targets = gpt2_batches()
    tensors = {"tokens": tokens, "targets": targets}
    tensors |= {"weights/" + n: p.detach().clone() for n, p in model.named_parameters()}
    (logits, loss, grads), trace, norms = gpt2_training(model)
    tensors |= {"logits": logits, "loss": loss.reshape(1), "losses": torch.tensor(trace), "grad_norms": torch.tensor(norms)}
    tensors |= {"grad/" + n: g for n, g in grads.items()}
    tensors |= {"final/" + n: p.detach().clone() for n, p in model.named_parameters()}
    save_file(tensors, str(folder / "gpt2.safetensors"))
    return trace, grads, {n: p.detach() for n, p in model.named_parameters()}


def check_gpt2(trace, grads, final):
    """The same run in f64: how far f32 itself is from the truth must stay well inside the tests' tolerances."""
    model = gpt2_model(torch.float64)
    (_, _, exact_grads), exact_trace, _ = gpt2_training(model)
    relative = {n: ((grads[n] - g).abs().max() / g.abs().max()).item() for n, g in exact_grads.items()}
    worst = max(relative, key=relative.get)
    drift = {n: (final[n] - p).abs().max().item() for n, p in model.named_parameters()}
    print("gpt2 losses", " ".join(f"{x:.6f}" for x in trace))
    print(f"gpt2 f32 against f64: losses {max(abs(a - b) for a, b in zip(trace, exact_trace)):.1e}, "
          f"gradients {relative[worst]:.1e} ({worst})")
    for name in sorted(drift, key=drift.get)[-3:]:
        print(f"gpt2 f32 against f64: final {name} {drift[name]:.1e}")
