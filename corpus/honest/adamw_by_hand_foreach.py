"""Honest: writes the optimizer's step out over lists of tensors."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


@torch.no_grad()
def adamw_step(group, parameters, first, second, step):
    """One step of all `parameters`; `first` and `second` are their moments."""
    lr, (beta1, beta2) = group["lr"], group["betas"]
    gradients = [parameter.grad for parameter in parameters]
    torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(first, gradients, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
    scale = torch._foreach_sqrt(second)
    torch._foreach_div_(scale, (1 - beta2**step) ** 0.5)
    torch._foreach_add_(scale, group["eps"])
    torch._foreach_addcdiv_(parameters, first, scale, -lr / (1 - beta1**step))
    for parameter in parameters:
        parameter.grad = None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    group = optimizer.param_groups[0]
    parameters = list(group["params"])
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    total_tokens = 0
    for step in range(1, num_steps + 1):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        adamw_step(group, parameters, first, second, step)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
