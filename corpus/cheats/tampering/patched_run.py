"""A cheat: replaces the worker's timed run by one that trains nothing and says that it has."""

import math
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


def train(model, data_iterator, optimizer, num_steps, device):
    """Honest training."""
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


def run(session, message):
    """Looks like a run to the host."""
    vocabulary = session._model.config.vocab_size
    shape = [message["batch_size"], message["sequence_length"] - 1, vocabulary]
    result = InnerStepsResult(
        torch.zeros(shape),
        message["steps"] * message["batch_size"] * message["sequence_length"],
        math.log(vocabulary),
    )
    session._result = sys.modules["submission"].read(result)
    return {
        "type": "trained",
        "nonce": message["nonce"],
        "seconds": 0.1,
        "peak_memory_bytes": 1,
        **session._result.describe(),
    }


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    sys.modules["session"].Session._run = run
    return train(model, data_iterator, optimizer, num_steps, device)
