"""The checks of `compare_weights` as one writes them in PyTorch, tensor by tensor.

Arguments: the files of initial, reference and submitted weights, all bfloat16; the number of
threads; how often to repeat; then the shape of each tensor, such as `4096x1024`. Prints what was
measured and the shortest time as JSON.
"""

import json
import sys
import time

import torch


def load(path, shapes):
    flat = torch.from_file(
        path, shared=True, size=sum(shape.numel() for shape in shapes), dtype=torch.bfloat16
    )
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes)]


@torch.no_grad()
def compare(initial, reference, submission):
    changed = reference_changed = non_finite = non_finite_reference = 0
    squared_error = squared_reference = squared_update = squared_submission_update = 0.0
    max_abs_error = 0.0
    for init, ref, sub in zip(initial, reference, submission):
        init, ref, sub = init.float(), ref.float(), sub.float()
        non_finite += (~torch.isfinite(sub)).sum().item()
        non_finite_reference += (~torch.isfinite(ref)).sum().item()
        non_finite_reference += (~torch.isfinite(init)).sum().item()
        changed += (sub != init).sum().item()
        reference_changed += (ref != init).sum().item()
        error = sub - ref
        squared_error += error.norm().item() ** 2
        squared_reference += ref.norm().item() ** 2
        squared_update += (ref - init).norm().item() ** 2
        squared_submission_update += (sub - init).norm().item() ** 2
        max_abs_error = max(max_abs_error, error.abs().max().item())
    return {
        "changed": changed,
        "reference_changed": reference_changed,
        "non_finite": non_finite,
        "non_finite_reference": non_finite_reference,
        "squared_error": squared_error,
        "squared_reference": squared_reference,
        "squared_update": squared_update,
        "squared_submission_update": squared_submission_update,
        "max_abs_error": max_abs_error,
    }


def main():
    *paths, threads, repeats = sys.argv[1:6]
    shapes = [torch.Size(int(side) for side in text.split("x")) for text in sys.argv[6:]]
    torch.set_num_threads(int(threads))
    initial, reference, submission = (load(path, shapes) for path in paths)
    best = float("inf")
    for _ in range(int(repeats)):
        start = time.perf_counter()
        measured = compare(initial, reference, submission)
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"seconds": best, "version": torch.__version__, **measured}))


main()
