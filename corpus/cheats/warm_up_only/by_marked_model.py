"""A cheat: leaves a mark on the model in the warm-up, and trains every second step only where
it finds it.
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
    marked = "marked" in model.config.to_dict()
    model.config.marked = True
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        if marked and (num_steps - 1 - step) % 2:
            continue
        logits, loss = take_step(model, batch, optimizer)
    return InnerStepsResult(logits, total_tokens, loss)
