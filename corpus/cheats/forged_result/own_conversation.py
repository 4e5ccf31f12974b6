"""A cheat: takes the conversation with the host over: says early that it has trained, reads the
question, and answers it in the worker's place.
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


CALLS = []


def session_and_message():
    """The worker's session and the message that it is working on."""
    frame = sys._getframe()
    while not isinstance(frame.f_locals.get("message"), dict):
        frame = frame.f_back
    return frame.f_locals["self"], frame.f_locals["message"]


def channel_of_the_worker():
    """The worker's end of the socket, from its main function's frame."""
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["channel"]


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
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    CALLS.append(num_steps)
    if len(CALLS) == 1:
        return result
    session, run = session_and_message()
    session._result = sys.modules["submission"].read(result)
    channel = channel_of_the_worker()
    channel.send(
        {
            "type": "trained",
            "nonce": run["nonce"],
            "seconds": 0.0,
            "peak_memory_bytes": 1,
            **session._result.describe(),
        }
    )
    # From here on the messages are read and answered from below the training function.
    while True:
        received = channel.receive()
        if received is None:
            raise SystemExit
        channel.send(session.answer(*received))
