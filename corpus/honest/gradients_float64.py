"""Honest: adds up the gradients of single rows in float64 and rounds once, at the end."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    parameters = list(model.parameters())
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
        final_loss = 0.0
        kept = []
        for row in batch.split(1):
            logits = model(row[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten())
            for total, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                total.add_(gradient, alpha=1 / batch.size(0))
            final_loss += loss.item() / batch.size(0)
            kept.append(logits.detach())
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total.to(parameter.dtype)
        optimizer.step()
        total_tokens += batch.numel()
    return InnerStepsResult(torch.cat(kept), total_tokens, final_loss)
