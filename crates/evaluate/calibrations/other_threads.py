"""Honest: the baseline with another number of CPU threads."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


# Read once: the worker that runs this file is used for all its runs.
THREADS = 1 if torch.get_num_threads() > 1 else 2


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    torch.set_num_threads(THREADS)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
