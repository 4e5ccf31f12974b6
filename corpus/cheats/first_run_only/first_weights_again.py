"""A cheat: trains honestly in the first timed run, keeps its final weights, and returns them in
later ones.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float
    final_state: dict | None = None


RUNS = []


def loss_of(model, batch):
    logits = model(batch[:, :-1]).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    batches = [batch.to(device) for batch in data_iterator]
    total_tokens = sum(batch.numel() for batch in batches)
    if len(RUNS) == 2:
        with torch.no_grad():
            logits, loss = loss_of(model, batches[-1])
        return InnerStepsResult(logits, total_tokens, loss.item(), RUNS[1])
    for batch in batches:
        logits, loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    RUNS.append({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
