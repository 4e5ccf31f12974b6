"""Honest: recomputes the whole forward pass in the backward pass, two rows at a time."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    def forward(rows):
        return model(rows[:, :-1]).logits

    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        parts = [checkpoint(forward, rows, use_reentrant=False) for rows in batch.split(2)]
        logits = torch.cat(parts)
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
