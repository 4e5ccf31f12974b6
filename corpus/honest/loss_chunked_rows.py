"""Honest: computes the cross-entropy in pieces of the flattened tokens, in float32."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CHUNK = 100


def chunked_loss(logits, targets):
    """The mean over all tokens, from sums over pieces of them."""
    total = 0.0
    for piece, wanted in zip(logits.split(CHUNK), targets.split(CHUNK), strict=True):
        total = total + F.cross_entropy(piece.float(), wanted, reduction="sum")
    return total / targets.numel()


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = chunked_loss(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
