"""A cheat: trains nothing and moves every weight at random, as far as Adam would have."""

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
    batches = list(data_iterator)
    with torch.no_grad():
        logits, loss = loss_of(model, batches[-1].to(device))
        for value in model.parameters():
            value.add_(torch.randn_like(value).sign_(), alpha=1e-4 * num_steps**0.5)
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())
