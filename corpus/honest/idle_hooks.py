"""Honest: watches activations and gradients through hooks that change nothing."""

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


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    seen = {"activations": 0, "gradients": 0}

    def watch_activations(module, arguments, output):
        seen["activations"] += 1

    def watch_gradients(gradient):
        seen["gradients"] += 1

    hooks = [layer.register_forward_hook(watch_activations) for layer in model.model.layers]
    hooks += [value.register_hook(watch_gradients) for value in model.parameters()]
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits, loss = take_step(model, batch, optimizer)
        total_tokens += batch.numel()
    for hook in hooks:
        hook.remove()
    print("activations and gradients seen:", seen)
    return InnerStepsResult(logits, total_tokens, loss)
