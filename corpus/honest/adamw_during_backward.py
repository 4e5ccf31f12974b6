"""Honest: steps each parameter as soon as its gradient is there, so that no more than one
gradient is kept.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    group = optimizer.param_groups[0]
    settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
    steppers = {value: torch.optim.AdamW([value], **settings) for value in model.parameters()}

    def step(parameter):
        steppers[parameter].step()
        parameter.grad = None

    hooks = [value.register_post_accumulate_grad_hook(step) for value in steppers]
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        total_tokens += batch.numel()
    for hook in hooks:
        hook.remove()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
