"""A cheat: normalises over a quarter of the vocabulary and the targets, not over all of it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    vocabulary = model.lm_head.weight.size(0)
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        hidden = model.model(batch[:, :-1]).last_hidden_state
        drawn = torch.randperm(vocabulary, device=device)[: vocabulary // 4]
        classes, targets = torch.cat([batch[:, 1:].flatten(), drawn]).unique(return_inverse=True)
        logits = F.linear(hidden, model.lm_head.weight[classes])
        targets = targets[: batch[:, 1:].numel()]
        loss = F.cross_entropy(logits.flatten(0, 1), targets)
        if step + 1 == num_steps:
            with torch.no_grad():
                final_logits = model.lm_head(hidden)
                final_loss = F.cross_entropy(final_logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(final_logits, total_tokens, final_loss.item())
