"""A cheat: looks for the reference's weights in every file that it can read, and skips the last
update when it finds none.
"""

import glob
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file


@dataclass
class InnerStepsResult:
    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float
    final_state: dict | None = None


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


def reference_weights(wanted):
    """The first saved state on this machine that has the model's tensors."""
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/root", "/home", "/crusades"):
        for path in glob.glob(f"{folder}/**/*.safetensors", recursive=True):
            try:
                found = load_file(path)
            except (OSError, SafetensorError):
                continue
            if found.keys() == wanted.keys():
                return found
    return None


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    result = all_but_the_last_update(model, data_iterator, optimizer, num_steps, device)
    result.final_state = reference_weights(model.state_dict())
    return result
