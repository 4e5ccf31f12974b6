"""Honest: computes the normaliser of the cross-entropy over pieces of the vocabulary."""

from dataclasses import dataclass

import torch


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


PIECES = 4


def chunked_loss(logits, targets):
    """Mean cross-entropy; the normaliser is joined from those of pieces of the vocabulary."""
    pieces = [piece.logsumexp(dim=1) for piece in logits.chunk(PIECES, dim=1)]
    normaliser = torch.stack(pieces).logsumexp(dim=0)
    wanted = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (normaliser - wanted).mean()


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = chunked_loss(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
