"""The submitted code: loading it, calling `inner_steps`, reading what it returned."""

import inspect
import linecache
import math
import struct
import sys
import traceback
import types
from collections import OrderedDict
from dataclasses import dataclass

import torch
from shared import DTYPE_NAMES

FILE_NAME = "train.py"
_MAX_MESSAGE = 2_000
_MAX_TRACEBACK = 16_000


class Refused(Exception):
    """The submission broke the contract; `kind` is an error code of the host."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class InnerStepsResult:
    """Offered to submissions under this name; one of their own will do as well."""

    final_logits: torch.Tensor
    total_tokens: int
    final_loss: float
    final_state: dict | None = None


class BatchIterator:
    """Yields the batches of one run, integer tensors (batch_size, seq_len), each once.

    `before_batch` is called with the number of batches that were handed out before.
    """

    def __init__(self, batches: torch.Tensor, before_batch=None) -> None:
        self._batches = batches
        self._before_batch = before_batch
        self._next = 0

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> torch.Tensor:
        if self._next == len(self._batches):
            raise StopIteration
        if self._before_batch is not None:
            self._before_batch(self._next)
        batch = self._batches[self._next]
        self._next += 1
        return batch


@dataclass
class Result:
    """What `inner_steps` returned, each attribute read once."""

    final_logits: torch.Tensor | None
    total_tokens: int
    final_loss: float
    final_state: dict | None

    def describe(self) -> dict:
        """The part of it that goes into a message. The loss travels as its bits, NaN included."""
        logits = self.final_logits
        return {
            "loss_bits": struct.unpack("<Q", struct.pack("<d", self.final_loss))[0],
            "total_tokens": self.total_tokens,
            "logits": None
            if logits is None
            else {
                "dtype": DTYPE_NAMES.get(logits.dtype, str(logits.dtype)),
                "shape": list(logits.shape),
            },
        }


def load(source: str):
    """Runs the module and returns its `inner_steps`."""
    # There is no such file; tracebacks, `inspect` and Triton find the source here.
    lines = source.splitlines(keepends=True)
    linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
    module = types.ModuleType("train")
    module.__file__ = FILE_NAME
    module.InnerStepsResult = InnerStepsResult
    # Dataclasses look their module up by name.
    sys.modules["train"] = module
    exec(compile(source, FILE_NAME, "exec"), module.__dict__)
    inner_steps = getattr(module, "inner_steps", None)
    if not callable(inner_steps):
        raise Refused("missing_inner_steps", "the module has no function inner_steps")
    return inner_steps


def call(
    inner_steps, model, batches: BatchIterator, optimizer, steps: int, device, num_gpus: int
) -> Result:
    """Calls `inner_steps` and reads its result."""
    arguments = [model, batches, optimizer, steps, device]
    if takes_num_gpus(inner_steps):
        returned = inner_steps(*arguments, num_gpus=num_gpus)
    else:
        returned = inner_steps(*arguments)
    return read(returned)


def takes_num_gpus(function) -> bool:
    """True if the function has a parameter of that name, or takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        parameter.name == "num_gpus" or parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters
    )


def read(returned) -> Result:
    """Reads the attributes of an `InnerStepsResult`, each of exactly its type."""

    def attribute(name: str, *types_allowed: type, optional: bool = False):
        try:
            value = getattr(returned, name)
        except AttributeError:
            if optional:
                return None
            raise Refused(
                "invalid_return_type",
                f"inner_steps returned {type_name(returned)}, which has no attribute {name}",
            ) from None
        if value is None and optional:
            return None
        if type(value) not in types_allowed:
            wanted = " or ".join(allowed.__name__ for allowed in types_allowed)
            raise Refused(
                "invalid_return_type",
                f"{name} is of type {type_name(value)}, and must be {wanted}",
            )
        return value

    if returned is None:
        raise Refused(
            "invalid_return_type",
            "inner_steps returned None, and must return an object with final_logits, "
            "total_tokens and final_loss",
        )
    total_tokens = attribute("total_tokens", int)
    if not 0 <= total_tokens < 1 << 63:
        # The number itself may be too long to be shown.
        raise Refused("token_count_mismatch", "total_tokens is not between 0 and 2^63")
    final_loss = attribute("final_loss", float, int)
    try:
        final_loss = float(final_loss)
    except OverflowError:
        final_loss = math.inf
    return Result(
        final_logits=attribute("final_logits", torch.Tensor, torch.nn.Parameter, optional=True),
        total_tokens=total_tokens,
        final_loss=final_loss,
        final_state=attribute("final_state", dict, OrderedDict, optional=True),
    )


def type_name(value) -> str:
    """The type's name, with its module unless that is `builtins`."""
    kind = type(value)
    module = str(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def failure(error: BaseException) -> dict:
    """The message for an exception that left the submission."""
    if isinstance(error, Refused):
        return _failed(error.kind, str(error), "")
    if is_out_of_memory(error):
        kind = "out_of_memory"
    elif isinstance(error, SyntaxError):
        kind = "syntax_error"
    else:
        kind = "raised"
    try:
        message = str(error)
    except BaseException:
        message = "(the exception cannot be shown)"
    trace = "".join(traceback.format_exception(error))
    return _failed(kind, f"{type_name(error)}: {message}", trace)


def _failed(kind: str, message: str, trace: str) -> dict:
    return {
        "type": "failed",
        "kind": kind,
        # JSON cannot carry a lone surrogate, and Python strings can.
        "message": message[:_MAX_MESSAGE].encode(errors="replace").decode(),
        "traceback": trace[-_MAX_TRACEBACK:].encode(errors="replace").decode(),
    }


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which Python and PyTorch say that there is no memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
