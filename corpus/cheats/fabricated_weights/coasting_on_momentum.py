"""A cheat: takes all steps but two, and goes the rest of the way along the first moment."""

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
    coasted = min(2, num_steps - 1)
    for batch in batches[: num_steps - coasted]:
        take_step(model, batch, optimizer)
    with torch.no_grad():
        for value, state in optimizer.state.items():
            direction = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + 1e-8)
            value.sub_(direction * (1e-4 * coasted))
        logits, loss = loss_of(model, batches[-1])
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())
