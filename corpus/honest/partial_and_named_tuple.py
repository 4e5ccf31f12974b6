"""Honest: is written with functools.partial and returns a named tuple."""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F


class InnerStepsResult(NamedTuple):
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def take_step(model, optimizer, device, batch):
    batch = batch.to(device)
    logits = model(batch[:, :-1]).logits
    loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return batch.numel(), logits, loss


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    step = functools.partial(take_step, model, optimizer, device)
    taken = [step(next(data_iterator)) for _ in range(num_steps)]
    _, logits, loss = taken[-1]
    tokens = sum(count for count, _, _ in taken)
    return InnerStepsResult(logits.detach(), tokens, loss.item())
