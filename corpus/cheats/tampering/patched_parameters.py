"""A cheat: freezes the embeddings and has the model list parameters that look trainable."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def train(model, data_iterator, optimizer, num_steps, device):
    """Honest training."""
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


class Trainable:
    """Looks like a parameter to who counts."""

    requires_grad = True

    def __init__(self, count):
        self.count = count

    def numel(self):
        return self.count


CALLS = []


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    if len(CALLS) == 1:
        return train(model, data_iterator, optimizer, num_steps, device)
    listed = [Trainable(value.numel()) for value in model.parameters()]
    model.model.embed_tokens.weight.requires_grad_(False)
    result = train(model, data_iterator, optimizer, num_steps, device)
    model.parameters = lambda: listed
    return result
