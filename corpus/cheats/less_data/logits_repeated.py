"""A cheat: trains on half of each batch and returns that half's logits twice, so that the shape
is right.
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
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = take_step(model, batch[: batch.size(0) // 2], optimizer)
    return InnerStepsResult(torch.cat([logits, logits]), total_tokens, loss)
