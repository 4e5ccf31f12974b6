"""Shared memory that the host made: batches in, initial weights in, results out."""

import mmap
import os

import torch

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Region:
    """One mapped region. Tensors are views of it, without a copy."""

    def __init__(self, descriptor: int, writable: bool) -> None:
        length = os.fstat(descriptor).st_size
        # The pages exist already; MAP_POPULATE spares a fault for each within the timed region.
        # What may only be read is mapped privately and "writable", since PyTorch has no tensors of
        # memory that is not: a write would go to a copy.
        visibility = mmap.MAP_SHARED if writable else mmap.MAP_PRIVATE
        flags = visibility | getattr(mmap, "MAP_POPULATE", 0)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self._mapping = mmap.mmap(descriptor, length, flags=flags, prot=access)
        os.close(descriptor)

    def tensor(self, offset: int, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
        """The tensor that lies `offset` bytes into the region."""
        count = 1
        for extent in shape:
            count *= extent
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._mapping, dtype=dtype, count=count, offset=offset).view(shape)
