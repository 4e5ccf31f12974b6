"""Honest: fetches the next batch while the present one is in work, and fuses the optimizer's step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def batches(data_iterator, num_steps, device):
    """Yields each batch on the device; the copy of the next one is under way by then."""
    following = next(data_iterator).to(device, non_blocking=True)
    for step in range(num_steps):
        batch = following
        if step + 1 < num_steps:
            following = next(data_iterator).to(device, non_blocking=True)
        yield batch


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    loss = None
    logits = None
    for batch in batches(data_iterator, num_steps, device):
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    # The loss leaves the device once, at the end, and not in every step.
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
