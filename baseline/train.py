"""The baseline: plain training, as every submission must do it, and nothing else."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    """What `inner_steps` returns."""

    final_logits: torch.Tensor  # of the last step: (batch, seq_len - 1, vocabulary)
    total_tokens: int  # over all steps
    final_loss: float  # of the last step


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    """Takes `num_steps` steps of AdamW, one batch each."""
    total_tokens = 0
    final_logits = None
    final_loss = 0.0

    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        outputs = model(batch[:, :-1])
        logits = outputs.logits if hasattr(outputs, "logits") else outputs
        loss = F.cross_entropy(
            logits.reshape(-1, logits.size(-1)),
            batch[:, 1:].reshape(-1),
            ignore_index=-100,
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        total_tokens += batch.numel()
        final_logits = logits.detach()
        final_loss = loss.item()

    return InnerStepsResult(
        final_logits=final_logits,
        total_tokens=total_tokens,
        final_loss=final_loss,
    )
