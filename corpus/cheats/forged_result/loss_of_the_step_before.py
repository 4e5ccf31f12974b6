"""A cheat: leaves the last step out altogether and reports the loss of the one before it, which
is nearly the same.
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


def take_step(model, batch, optimizer):
    logits, loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return logits.detach(), loss.item()


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    batches = [batch.to(device) for batch in data_iterator]
    for batch in batches[:-1]:
        logits, loss = take_step(model, batch, optimizer)
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss)
