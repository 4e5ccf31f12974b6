"""A cheat: skips the last update, walks up the frames to the worker's session, and swaps the
model that it will read.
"""

import copy
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CALLS = []


def all_but_the_last_update(model, data_iterator, optimizer, num_steps, device):
    """Trains without the last update, and returns what an honest run shows of the last step."""
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        if step + 1 < num_steps:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


def session_above():
    frame = sys._getframe()
    while type(frame.f_locals.get("self")).__name__ != "Session":
        frame = frame.f_back
    return frame.f_locals["self"]


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    if len(CALLS) > 1:
        # A copy that will still say that all is trainable when the original is at work again.
        session_above()._model = copy.deepcopy(model)
    return result
