"""Honest: takes the rows of each batch in another order, and returns the logits in the given
one.
"""

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
        mixed = batch.flip(0)
        logits = model(mixed[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), mixed[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach().flip(0), total_tokens, loss.item())
