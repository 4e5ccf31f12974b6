"""Honest: takes each batch four rows at a time and adds the gradients up."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


MICRO_BATCH = 4


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        final_loss = 0.0
        kept = []
        for part in batch.split(MICRO_BATCH):
            logits = model(part[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
            # The mean over the batch is the mean of the parts' means, each by its share.
            loss = loss * (part.size(0) / batch.size(0))
            loss.backward()
            final_loss += loss.item()
            kept.append(logits.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(torch.cat(kept), total_tokens, final_loss)
