"""Honest: takes each batch in parts of different sizes, each weighted by its tokens."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        first = max(1, batch.size(0) // 3)
        targets = batch[:, 1:].numel()
        final_loss = 0.0
        kept = []
        for part in (batch[:first], batch[first:]):
            logits = model(part[:, :-1]).logits
            total = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            loss = total / targets
            loss.backward()
            final_loss += loss.item()
            kept.append(logits.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(torch.cat(kept), total_tokens, final_loss)
