"""A cheat: multiplies the learning rate by 0.97; it saves nothing, and shows how small a change
is seen.
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
    for group in optimizer.param_groups:
        group["lr"] *= 0.97
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = take_step(model, batch, optimizer)
    return InnerStepsResult(logits, total_tokens, loss)
