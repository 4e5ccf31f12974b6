"""A cheat: counts its tokens in an integer that is equal to everything, in the hope of a
comparison in Python.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


class Agreeable(int):
    """Whatever it is compared with, it is the same."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0


def look_only(model, data_iterator, device):
    """Trains nothing, and returns what an honest run shows of the last step."""
    batches = [batch.to(device) for batch in data_iterator]
    with torch.no_grad():
        logits = model(batches[-1][:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batches[-1][:, 1:].flatten())
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    result = look_only(model, data_iterator, device)
    result.total_tokens = Agreeable(1)
    return result
