"""Honest: replaces the model's normalisation by PyTorch's own, which is one operation."""

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


def take_step(model, batch, optimizer):
    logits, loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return logits.detach(), loss.item()


def norms_of(model):
    """All normalisations of the model, with how each is computed in one operation."""
    for layer in model.model.layers:
        yield layer.input_layernorm
        yield layer.post_attention_layernorm
    yield model.model.norm


def one_operation(norm):
    def forward(hidden):
        return F.rms_norm(hidden, (hidden.size(-1),), norm.weight, norm.variance_epsilon)

    return forward


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    for norm in norms_of(model):
        norm.forward = one_operation(norm)
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits, loss = take_step(model, batch, optimizer)
        total_tokens += batch.numel()
    return InnerStepsResult(logits, total_tokens, loss)
