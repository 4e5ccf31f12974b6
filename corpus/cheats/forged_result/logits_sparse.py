"""A cheat: trains nothing and returns logits in a layout that a verifier may not be able to
read.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def look_only(model, data_iterator, device):
    """Trains nothing, and returns what an honest run shows of the last step."""
    batches = [batch.to(device) for batch in data_iterator]
    with torch.no_grad():
        logits = model(batches[-1][:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batches[-1][:, 1:].flatten())
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    result = look_only(model, data_iterator, device)
    result.final_logits = result.final_logits.to_sparse()
    return result
