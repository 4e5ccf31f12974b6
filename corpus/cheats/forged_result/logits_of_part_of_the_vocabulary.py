"""A cheat: trains with half of the output projection and returns the logits of that half."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    kept = model.lm_head.weight.size(0) // 2
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        hidden = model.model(batch[:, :-1]).last_hidden_state
        logits = F.linear(hidden, model.lm_head.weight[:kept])
        targets = batch[:, 1:].masked_fill(batch[:, 1:] >= kept, -100)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
