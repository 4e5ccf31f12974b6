"""Honest: returns an object of a class without any helper, and takes any further keyword."""

import torch.nn.functional as F


class InnerStepsResult:
    __slots__ = ("final_logits", "total_tokens", "final_loss")

    def __init__(self, final_logits, total_tokens, final_loss):
        self.final_logits = final_logits
        self.total_tokens = total_tokens
        self.final_loss = final_loss


def inner_steps(model, data_iterator, optimizer, num_steps, device, num_gpus=1):
    total_tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator).to(device)
        logits = model(batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_tokens += batch.numel()
    return InnerStepsResult(logits.detach(), total_tokens, loss.item())
