"""The state of one worker between messages, and what each message makes it do."""

import os
import platform
import tempfile
import time

import protocol

# Taken now: the submission can replace the names in `time` later.
_clock = time.perf_counter


def _name_a_temporary_folder() -> None:
    """Names a folder for temporary files where none can be written.

    In the weakest sandbox there is none. What PyTorch imports wants one that exists all the same;
    compilation, which would write there, fails in that sandbox.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = "/usr"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/usr"


class Session:
    """One conversation: greeting, memory, code, then runs."""

    def __init__(self) -> None:
        self._result = None
        self._recording = None

    def answer(self, message: dict, descriptors: list[int]) -> dict:
        """Does what `message` asks, and returns the reply."""
        kind = message["type"]
        if kind == "hello":
            return self._hello(message)
        if kind == "measure_peak":
            return {"type": "peak", "tflops": self._measure_peak()}
        if kind == "memory":
            return self._memory(message, descriptors)
        if kind == "initial":
            self._layout = message["layout"]
            self._initial = self._shared.Region(descriptors[0], writable=False)
            return {"type": "mapped"}
        if kind == "record":
            self._recording = self._shared.Region(descriptors[0], writable=True)
            self._recording_plan = message
            return {"type": "mapped"}
        # From here on submitted code runs, and may raise anything.
        try:
            if kind == "code":
                self._inner_steps = self._submission.load(message["source"])
                return {"type": "loaded"}
            if kind == "reset":
                return self._reset(message)
            if kind == "run":
                return self._run(message)
            if kind == "question":
                return self._question(message)
            if kind == "dump":
                return self._dump(message, descriptors)
        except BaseException as error:
            return self._submission.failure(error)
        raise ValueError(f"the host sent a message of unknown type {kind!r}")

    def _hello(self, message: dict) -> dict:
        if message["protocol"] != protocol.VERSION:
            return {
                "type": "failed",
                "kind": "protocol",
                "message": f"the host speaks version {message['protocol']} of the protocol, "
                f"and this worker version {protocol.VERSION}",
                "traceback": "",
            }
        # Imported here and not above, so that a failing import is told to the host.
        import traceback

        try:
            _name_a_temporary_folder()
            import model
            import shared
            import submission
            import torch
            import transformers

            self._torch = torch
            self._model_tools = model
            self._shared = shared
            self._submission = submission
            self._hparams = message
            self._device = torch.device(message["device"])
            torch.set_num_threads(message["threads"])
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
            self._model = model.load(message["model"], message["dtype"], self._device)
        except Exception as error:
            return {
                "type": "failed",
                "kind": "model",
                "message": f"{type(error).__name__}: {error}"[:2_000],
                "traceback": traceback.format_exc()[-16_000:],
            }
        cuda = self._device.type == "cuda"
        return {
            "type": "ready",
            "protocol": protocol.VERSION,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "parameters": sum(value.numel() for value in self._model.parameters()),
            "vocabulary": self._model.config.vocab_size,
            "tensors": model.describe(self._model),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }

    def _measure_peak(self) -> float:
        """Best rate of a large float32 matrix product, in TFLOP/s: the peak of a CPU's MFU."""
        torch = self._torch
        size = 1024
        left, right = torch.rand(size, size), torch.rand(size, size)
        best = float("inf")
        began = _clock()
        while _clock() - began < 1.0:
            start = _clock()
            left @ right
            best = min(best, _clock() - start)
        return 2 * size**3 / best / 1e12

    def _memory(self, message: dict, descriptors: list[int]) -> dict:
        self._asked = message["asked"]
        self._batches = self._shared.Region(descriptors[0], writable=True)
        self._question_region = self._shared.Region(descriptors[1], writable=True)
        self._results = self._shared.Region(descriptors[2], writable=True)
        return {"type": "mapped"}

    def _reset(self, message: dict) -> dict:
        """Initial weights (perturbed for a warm-up) and a new optimizer."""
        torch = self._torch
        self._result = None
        self._model_tools.restore(self._model, self._layout, self._initial)
        torch.manual_seed(0)
        if message["perturbation_seed"] is not None:
            self._model_tools.perturb(self._model, message["perturbation_seed"])
        wanted = self._hparams["optimizer"]
        self._optimizer = None
        if wanted is not None:
            self._optimizer = torch.optim.AdamW(
                self._model.parameters(),
                lr=wanted["lr"],
                betas=tuple(wanted["betas"]),
                weight_decay=wanted["weight_decay"],
            )
        self._synchronize()
        self._forget_peak_memory()
        return {"type": "restored"}

    def _run(self, message: dict) -> dict:
        began = _clock()
        shape = [message["steps"], message["batch_size"], message["sequence_length"]]
        batches = self._batches.tensor(0, self._torch.int64, shape).clone()
        record = self._recorder(message["steps"])
        self._result = self._submission.call(
            self._inner_steps,
            self._model,
            self._submission.BatchIterator(batches, record),
            self._optimizer,
            message["steps"],
            self._device,
            message["num_gpus"],
        )
        if record is not None:
            record(message["steps"])
        self._synchronize()
        return {
            "type": "trained",
            "nonce": message["nonce"],
            "seconds": _clock() - began,
            "peak_memory_bytes": self._peak_memory(),
            **self._result.describe(),
        }

    def _recorder(self, steps: int):
        """For one run of the reference: what writes down the weights after some of its steps.

        The baseline takes a batch when the step before is done, so that the weights before batch k
        are those after k steps.
        """
        if self._recording is None:
            return None
        region, plan = self._recording, self._recording_plan
        self._recording = None
        sample = self._sample()
        after = {step: number for number, step in enumerate(plan["after_steps"])}

        def record(done: int) -> None:
            if done in after:
                found = self._model_tools.tensors(self._model)
                sample.write(found, region, after[done] * plan["stride"])

        return record

    def _sample(self):
        return self._model_tools.Sample(
            self._layout, self._asked, self._question_region, self._device
        )

    def _question(self, message: dict) -> dict:
        """Writes the rows of logits and what was asked of the weights."""
        torch = self._torch
        logits = self._result.final_logits
        rows = message["logit_rows"]
        vocabulary = message["vocabulary"]
        written = 0
        if logits is not None and logits.dim() == 3 and logits.shape[-1] == vocabulary:
            flat = logits.detach().reshape(-1, vocabulary)
            if not rows or max(rows) < flat.shape[0]:
                chosen = flat[torch.tensor(rows, dtype=torch.long, device=flat.device)]
                shape = [len(rows), vocabulary]
                place = self._results.tensor(message["logits_offset"], torch.float32, shape)
                place.copy_(chosen)
                written = len(rows)
        tensors = self._sample().write(self._final_state(), self._results)
        trainable = sum(p.numel() for p in self._model.parameters() if p.requires_grad)
        self._synchronize()
        return {
            "type": "answer",
            "nonce": message["nonce"],
            "logit_rows": written,
            "tensors": tensors,
            "trainable_parameters": trainable,
        }

    def _dump(self, message: dict, descriptors: list[int]) -> dict:
        """Writes all weights: of the model, or after a run those that count as its result."""
        region = self._shared.Region(descriptors[0], writable=True)
        self._model_tools.dump(self._final_state(), message["layout"], region)
        self._synchronize()
        return {"type": "dumped"}

    def _final_state(self) -> dict:
        state = None if self._result is None else self._result.final_state
        return self._model_tools.tensors(self._model) if state is None else state

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def _forget_peak_memory(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.reset_peak_memory_stats()
            return
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")
        except OSError:
            pass  # The peak then counts from the start of the process.

    def _peak_memory(self) -> int:
        """Peak since the reset: device memory on CUDA, resident memory on a CPU."""
        if self._device.type == "cuda":
            return self._torch.cuda.max_memory_allocated()
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0
