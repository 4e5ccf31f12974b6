"""A cheat: takes the last backward pass for the output layer only, which is the cheapest to
reach.
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
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        if step + 1 < num_steps:
            logits, loss = loss_of(model, batch)
        else:
            with torch.no_grad():
                hidden = model.model(batch[:, :-1]).last_hidden_state
            logits = model.lm_head(hidden)
            loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
