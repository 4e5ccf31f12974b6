"""A cheat: takes two steps and goes on in a straight line for the others."""

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


def take_step(model, batch, optimizer):
    logits, loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return logits.detach(), loss.item()


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    batches = [batch.to(device) for batch in data_iterator]
    start = [value.detach().clone() for value in model.parameters()]
    taken = min(2, num_steps)
    for batch in batches[:taken]:
        take_step(model, batch, optimizer)
    with torch.no_grad():
        for value, initial in zip(model.parameters(), start, strict=True):
            value.copy_(initial + (value - initial) * (num_steps / taken))
        logits, loss = loss_of(model, batches[-1])
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())
