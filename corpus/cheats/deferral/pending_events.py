"""A cheat: leaves the last step to Python's own alarm, which runs it between two operations of
the worker.
"""

import signal
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
    _, loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def all_but_the_last_step(model, batches, optimizer):
    """Trains on all batches but one, and returns what the result has to show of that one."""
    for batch in batches[:-1]:
        take_step(model, batch, optimizer)
    with torch.no_grad():
        logits, loss = loss_of(model, batches[-1])
    return InnerStepsResult(logits, sum(batch.numel() for batch in batches), loss.item())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    batches = [batch.to(device) for batch in data_iterator]
    result = all_but_the_last_step(model, batches, optimizer)

    def later(number, frame):
        take_step(model, batches[-1], optimizer)

    signal.signal(signal.SIGALRM, later)
    signal.alarm(3)
    return result
