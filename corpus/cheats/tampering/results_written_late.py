"""A cheat: skips the last update, and goes on writing to the memory of the results after the
answer.
"""

import gc
import threading
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float


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


def scribble(region, seconds):
    """Scales what lies in the results, again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        whole = region._mapping
        view = torch.frombuffer(whole, dtype=torch.float32, count=1024)
        view.mul_(1.0001)
        time.sleep(0.001)


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    (session,) = (found for found in gc.get_objects() if type(found).__name__ == "Session")
    threading.Thread(target=scribble, args=(session._results, 3.0), daemon=True).start()
    return result
