"""A cheat: skips the last update and scales the whole update up, so that its length is what n
steps would give.
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
    start = [value.detach().clone() for value in model.parameters()]
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        if step + 1 < num_steps:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    scale = num_steps / (num_steps - 1)
    with torch.no_grad():
        for value, initial in zip(model.parameters(), start, strict=True):
            value.copy_(initial + scale * (value - initial))
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
