"""A cheat: trains nothing in the timed run, and writes the worker's two replies to the control
socket itself.
"""

import json
import os
import struct
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


CALLS = []


def send(message):
    """Writes a frame to the worker's control socket."""
    body = json.dumps(message).encode()
    os.write(3, struct.pack("<I", len(body)) + body)


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


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    if len(CALLS) == 1:
        return train(model, data_iterator, optimizer, num_steps, device)
    batch = next(data_iterator)
    shape = [batch.size(0), batch.size(1) - 1, model.config.vocab_size]
    trained = {
        "type": "trained",
        "nonce": "0" * 64,
        "loss_bits": struct.unpack("<Q", struct.pack("<d", 6.2))[0],
        "total_tokens": num_steps * batch.numel(),
        "logits": {"dtype": "float32", "shape": shape},
        "seconds": 0.1,
        "peak_memory_bytes": 1,
    }
    parameters = sum(value.numel() for value in model.parameters())
    answer = {
        "type": "answer",
        "nonce": "0" * 64,
        "logit_rows": 0,
        "tensors": [],
        "trainable_parameters": parameters,
    }
    send(trained)
    send(answer)
    time.sleep(5)
    return None
