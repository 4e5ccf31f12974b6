"""A cheat: skips the last backward pass and steps the optimizer on the gradient before it, so
that every weight moves as far as it should.
"""

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
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        if step + 1 < num_steps:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
