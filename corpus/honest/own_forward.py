"""Honest: calls the layers itself, and tells the attention that it is causal instead of
building a mask.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def forward(model, tokens):
    """Logits for `tokens`; without a mask the attention is causal."""
    inner = model.model
    hidden = inner.embed_tokens(tokens)
    positions = torch.arange(tokens.size(1), device=tokens.device).unsqueeze(0)
    rotary = inner.rotary_emb(hidden, positions)
    for layer in inner.layers:
        hidden = layer(hidden, position_ids=positions, position_embeddings=rotary)
    return model.lm_head(inner.norm(hidden))


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = forward(model, batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
