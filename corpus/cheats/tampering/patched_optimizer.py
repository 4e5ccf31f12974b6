"""A cheat: replaces the optimizer class in the warm-up, so that the worker itself builds one
that steps every second time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def train(model, data_iterator, optimizer, num_steps, device):
    """Honest training."""
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


class HalfAdamW(torch.optim.AdamW):
    """Leaves every second step out."""

    turns = 0

    def step(self, closure=None):
        HalfAdamW.turns += 1
        if HalfAdamW.turns % 2:
            return super().step(closure)
        return None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    torch.optim.AdamW = HalfAdamW
    return train(model, data_iterator, optimizer, num_steps, device)
