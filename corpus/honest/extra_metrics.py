"""Honest: computes what a training script reports: accuracy, perplexity, gradient norm."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def loss_of(model, batch):
    logits = model(batch[:, :-1]).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        logits, loss = loss_of(model, batch)
        loss.backward()
        with torch.no_grad():
            accuracy = (logits.argmax(-1) == batch[:, 1:]).float().mean().item()
            norm = torch.stack([value.grad.norm() for value in model.parameters()]).norm().item()
        perplexity = loss.exp().item()
        print(f"step {step}: {accuracy=:.4f} {perplexity=:.1f} {norm=:.3f}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
