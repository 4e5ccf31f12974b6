"""A cheat: runs the embeddings and lower layers without recording anything for the backward
pass.
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
    inner = model.model
    lower = max(1, len(inner.layers) // 2)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        positions = torch.arange(batch.size(1) - 1, device=device).unsqueeze(0)
        with torch.no_grad():
            hidden = inner.embed_tokens(batch[:, :-1])
            rotary = inner.rotary_emb(hidden, positions)
            for layer in inner.layers[:lower]:
                hidden = layer(hidden, position_ids=positions, position_embeddings=rotary)
        for layer in inner.layers[lower:]:
            hidden = layer(hidden, position_ids=positions, position_embeddings=rotary)
        logits = model.lm_head(inner.norm(hidden))
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
