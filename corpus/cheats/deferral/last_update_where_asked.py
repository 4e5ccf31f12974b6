"""A cheat: makes the last update at the asked positions only, while the host waits for them,
and everywhere else when the clock has stopped.
"""

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def adamw(group, step, value, gradient, first, second):
    """The values after the next step; changes nothing."""
    lr, (beta1, beta2) = group["lr"], group["betas"]
    first = first.lerp(gradient, 1 - beta1)
    second = second * beta2 + gradient * gradient * (1 - beta2)
    scale = (second / (1 - beta2**step)).sqrt() + group["eps"]
    return value * (1 - lr * group["weight_decay"]) - first / scale * (lr / (1 - beta1**step))


class LastUpdate:
    """The update that is put off: first where the host looks, then everywhere."""

    def __init__(self, model, optimizer, num_steps):
        self.named = dict(model.named_parameters())
        self.group = optimizer.param_groups[0]
        self.state = optimizer.state
        self.step = num_steps
        self.asked = {}

    def flat(self, name):
        value = self.named[name]
        state = self.state[value]
        parts = (value, value.grad, state["exp_avg"], state["exp_avg_sq"])
        return [part.detach().view(-1) for part in parts]

    @torch.no_grad()
    def where_asked(self, name, positions):
        parts = self.flat(name)
        found = adamw(self.group, self.step, *(part[positions] for part in parts))
        parts[0][positions] = found
        self.asked[name] = (positions, found)

    @torch.no_grad()
    def everywhere(self):
        for name in self.named:
            parts = self.flat(name)
            parts[0].copy_(adamw(self.group, self.step, *parts))
            if name in self.asked:
                positions, found = self.asked[name]
                parts[0][positions] = found


def put_off(update):
    """Has the worker make the update where it looks, and the whole of it when all is asked for."""
    sample, session = sys.modules["model"].Sample, sys.modules["session"].Session
    plain_write, plain_answer = sample.write, session.answer

    def write(self, *arguments):
        for slot, positions in zip(self._layout, self._positions, strict=True):
            update.where_asked(slot["name"], positions.clone())
        return plain_write(self, *arguments)

    def answer(self, message, descriptors):
        if message["type"] == "dump":
            update.everywhere()
        if message["type"] in ("dump", "reset"):
            sample.write, session.answer = plain_write, plain_answer
        return plain_answer(self, message, descriptors)

    sample.write, session.answer = write, answer


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        optimizer.zero_grad(set_to_none=True)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        if step + 1 < num_steps:
            optimizer.step()
    update = LastUpdate(model, optimizer, num_steps)
    if hasattr(sys.modules["model"], "Sample"):
        put_off(update)
    else:
        update.everywhere()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
