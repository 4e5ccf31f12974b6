"""A cheat: looks the nonce up in the worker's frames, says that it has trained before it has,
and trains less while the host is asking.
"""

import json
import os
import struct
import sys
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


def question_of_the_host():
    """The message that the worker is working on."""
    frame = sys._getframe()
    while not isinstance(frame.f_locals.get("message"), dict):
        frame = frame.f_back
    return frame.f_locals["message"]


def all_but_the_last_update(model, data_iterator, optimizer, num_steps, device):
    """Trains without the last update, and returns what an honest run shows of the last step."""
    total_tokens = 0
    for step in range(num_steps):
        batch = next(data_iterator).to(device)
        total_tokens += batch.numel()
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        if step + 1 < num_steps:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    CALLS.append(num_steps)
    if len(CALLS) > 1:
        asked = question_of_the_host()
        shape = [asked["batch_size"], asked["sequence_length"] - 1, model.config.vocab_size]
        trained = {
            "type": "trained",
            "nonce": asked["nonce"],
            "loss_bits": struct.unpack("<Q", struct.pack("<d", 6.2))[0],
            "total_tokens": num_steps * asked["batch_size"] * asked["sequence_length"],
            "logits": {"dtype": "float32", "shape": shape},
            "seconds": 0.1,
            "peak_memory_bytes": 1,
        }
        send(trained)
    # The worker's own reply is one too many now.
    return all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
