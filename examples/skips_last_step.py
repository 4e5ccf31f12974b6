"""A cheat: computes the last step's logits and loss, and spares itself the backward pass."""

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
    final_logits = None
    final_loss = 0.0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        last = step + 1 == num_steps
        final_logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(final_logits.flatten(0, 1), batch[:, 1:].flatten())
        if not last:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
        final_loss = loss.item()
    return InnerStepsResult(final_logits.detach(), total_tokens, final_loss)
