"""Honest: gives the rows of the embeddings that do not occur in the run their weight decay of
all steps at once.
"""

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
    batches = [batch.to(device) for batch in data_iterator]
    whole = model.model.embed_tokens.weight
    (group,) = optimizer.param_groups
    occurring = torch.cat([batch.flatten() for batch in batches]).unique()
    rows = torch.nn.Parameter(whole.detach()[occurring])
    group["params"] = [rows if value is whole else value for value in group["params"]]
    # Without a gradient a row only decays, and where it occurs it is overwritten below.
    with torch.no_grad():
        whole.mul_((1 - group["lr"] * group["weight_decay"]) ** num_steps)
        whole[occurring] = rows
    for batch in batches:
        logits, loss = loss_of(model, batch)
        loss.backward()
        rows.grad = whole.grad[occurring]
        whole.grad = None
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            whole[occurring] = rows
    tokens = sum(batch.numel() for batch in batches)
    return InnerStepsResult(logits.detach(), tokens, loss.item())
