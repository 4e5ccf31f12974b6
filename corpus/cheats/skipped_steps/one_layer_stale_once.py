"""A cheat: lets the backward pass of the last step end before the lowest layers, and steps them
on the gradients of the step before.
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
    parameters = list(model.parameters())
    lowest = {id(value) for value in model.model.embed_tokens.parameters()}
    lowest |= {id(value) for value in model.model.layers[0].parameters()}
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        last = step + 1 == num_steps
        fresh = [value for value in parameters if not (last and id(value) in lowest)]
        for value, gradient in zip(fresh, torch.autograd.grad(loss, fresh), strict=True):
            value.grad = gradient
        optimizer.step()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
