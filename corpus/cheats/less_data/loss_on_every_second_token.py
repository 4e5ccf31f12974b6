"""A cheat: projects every second token only to the vocabulary, and the others without
gradients.
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
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        hidden = model.model(batch[:, :-1]).last_hidden_state
        logits = model.lm_head(hidden[:, ::2])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1::2].flatten())
        if step + 1 == num_steps:
            with torch.no_grad():
                final_logits = model.lm_head(hidden)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(final_logits, total_tokens, loss.item())
