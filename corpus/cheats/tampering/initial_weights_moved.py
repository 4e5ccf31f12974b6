"""A cheat: writes the warm-up's trained weights over the worker's view of the initial ones, so
that the timed run begins with them.
"""

import gc
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CALLS = []


def train(model, data_iterator, optimizer, num_steps, device):
    """Honest training."""
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    result = train(model, data_iterator, optimizer, num_steps, device)
    if len(CALLS) > 1:
        return result
    (session,) = (found for found in gc.get_objects() if type(found).__name__ == "Session")
    named = dict(model.named_parameters())
    with torch.no_grad():
        for slot in session._layout:
            value = named[slot["name"]]
            session._initial.tensor(slot["offset"], value.dtype, slot["shape"]).copy_(value)
    return result
