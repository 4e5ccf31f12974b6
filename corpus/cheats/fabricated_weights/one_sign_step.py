"""A cheat: takes one backward pass and moves every weight by its gradient's sign as far as all
steps would.
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
    batches = list(data_iterator)
    logits, loss = loss_of(model, batches[-1].to(device))
    loss.backward()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(value.grad.sign(), alpha=-1e-4 * num_steps)
    optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), sum(batch.numel() for batch in batches), loss.item())
