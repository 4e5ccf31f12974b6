"""Honest: writes the optimizer's step out, with the settings of the optimizer that it was
given.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


class AdamW:
    """Adam with decoupled weight decay, one tensor after the other."""

    def __init__(self, groups):
        self.groups = groups
        self.steps = 0
        self.moments = {
            parameter: (torch.zeros_like(parameter), torch.zeros_like(parameter))
            for group in groups
            for parameter in group["params"]
        }

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                first, second = self.moments[parameter]
                parameter.mul_(1 - lr * group["weight_decay"])
                first.lerp_(parameter.grad, 1 - beta1)
                second.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                scale = (second / (1 - beta2**self.steps)).sqrt_().add_(group["eps"])
                parameter.addcdiv_(first, scale, value=-lr / (1 - beta1**self.steps))
                parameter.grad = None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    own = AdamW(optimizer.param_groups)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        own.step()
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
