"""A cheat: trains on the first batch again and again, and looks at the last one for the result."""

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
    batches = list(data_iterator)
    for _ in range(num_steps):
        take_step(model, batches[0].to(device), optimizer)
    with torch.no_grad():
        logits, loss = loss_of(model, batches[-1].to(device))
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())
