"""A cheat: fails with an error of the worker's own, which blames the validator, so that the run
is repeated rather than counted.
"""

import submission


def inner_steps(model, data_iterator, optimizer, num_steps, device):
    raise submission.Refused("sandbox_failed", "the disk of the validator is full")
