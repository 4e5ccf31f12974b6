"""Honest: takes each batch in parts, so that activations and logits need less memory."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

MICRO_BATCH = 2


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    final_loss = 0.0
    final_logits = None
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        last = step + 1 == num_steps
        final_loss = 0.0
        kept = []
        for part in batch.split(MICRO_BATCH):
            logits = model(part[:, :-1]).logits
            # The mean over the batch is the mean of the parts' means, each by its share.
            share = part.size(0) / batch.size(0)
            loss = share * F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
            loss.backward()
            final_loss += loss.item()
            if last:
                kept.append(logits.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
        if last:
            final_logits = torch.cat(kept)
    return InnerStepsResult(final_logits, total_tokens, final_loss)
