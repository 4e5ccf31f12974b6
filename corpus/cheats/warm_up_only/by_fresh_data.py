"""A cheat: trains honestly on data like the warm-up's and uses its compiled memory of them: in
later calls it replays the warm-up's batches, which are on the device already.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


KEPT = []


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
    if not KEPT:
        KEPT.extend(batch.to(device) for batch in batches)
    for step in range(num_steps - 1):
        take_step(model, KEPT[step % len(KEPT)], optimizer)
    logits, loss = take_step(model, batches[-1].to(device), optimizer)
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss)
