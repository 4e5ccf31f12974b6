"""Honest: joins the output projection with the cross-entropy, a piece of the tokens at a time;
only the last step keeps its logits.
"""

from dataclasses import dataclass

import torch


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CHUNK = 64


class LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T`; all logits never exist at once."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, keep):
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for_hidden = torch.empty_like(hidden)
        for_weight = torch.zeros_like(weight)
        for start in range(0, targets.numel(), CHUNK):
            piece = slice(start, start + CHUNK)
            logits = hidden[piece] @ weight.T
            if keep is not None:
                keep.append(logits)
            rows = torch.arange(logits.size(0), device=logits.device)
            log_probabilities = logits.float().log_softmax(1)
            total -= log_probabilities[rows, targets[piece]].sum()
            gradient = log_probabilities.exp_()
            gradient[rows, targets[piece]] -= 1.0
            gradient = (gradient / targets.numel()).to(logits.dtype)
            for_hidden[piece] = gradient @ weight
            for_weight.addmm_(gradient.T, hidden[piece])
        ctx.save_for_backward(for_hidden, for_weight)
        return total / targets.numel()

    @staticmethod
    def backward(ctx, upstream):
        for_hidden, for_weight = ctx.saved_tensors
        return for_hidden * upstream, for_weight * upstream, None, None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    kept = []
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        hidden = model.model(batch[:, :-1]).last_hidden_state
        keep = kept if step + 1 == num_steps else None
        weight = model.get_output_embeddings().weight
        targets = batch[:, 1:].flatten()
        loss = LinearCrossEntropy.apply(hidden.flatten(0, 1), weight, targets, keep)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    logits = torch.cat(kept).view(*hidden.shape[:2], -1)
    return InnerStepsResult(logits, total_tokens, loss.item())
