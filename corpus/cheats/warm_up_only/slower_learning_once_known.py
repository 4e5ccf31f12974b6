"""A cheat: trains honestly in the warm-up and without momentum afterwards, with an optimizer of
its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CALLS = []


def loss_of(model, batch):
    logits = model(batch[:, :-1]).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def sign_step(group):
    for parameter in group["params"]:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(parameter.grad.sign(), alpha=-group["lr"])


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits, loss = loss_of(model, batch)
        loss.backward()
        if len(CALLS) == 1:
            optimizer.step()
        else:
            sign_step(optimizer.param_groups[0])
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
