"""The model: loading it, naming its tensors, putting its weights back."""

import torch
from shared import DTYPE_NAMES, DTYPES, Region

WARM_UP_NOISE = 1e-3
"""Standard deviation of what is added to every weight for the warm-up."""


def load(source: dict, device: torch.device) -> torch.nn.Module:
    """The causal LM: at random from `source["config"]`, or from the folder `source["folder"]`."""
    # Here and not at the top: the import takes seconds, and the greeting should not.
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if source["kind"] == "config":
        config = dict(source["config"])
        torch.manual_seed(source["seed"])
        config = AutoConfig.for_model(config.pop("model_type"), **config)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            source["folder"], dtype=dtype, local_files_only=True, use_safetensors=True
        )
    # A cache of keys and values is of use when generating only.
    model.config.use_cache = False
    return prepare(model.to(device))


def prepare(model: torch.nn.Module) -> torch.nn.Module:
    """Train mode, every parameter trainable, no gradients."""
    model.train()
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    return model


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter once (a tied weight under its first name) and every saved buffer."""
    found = dict(model.named_parameters())
    parameters = {id(parameter) for parameter in found.values()}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in parameters:
            found[name] = value
    return found


def describe(model: torch.nn.Module) -> list[dict]:
    """Name, dtype and shape of each tensor, in the order of `tensors`."""
    trained = {name for name, _ in model.named_parameters()}
    return [
        {
            "name": name,
            "dtype": DTYPE_NAMES.get(value.dtype, str(value.dtype)),
            "shape": list(value.shape),
            "parameter": name in trained,
        }
        for name, value in tensors(model).items()
    ]


def restore(model: torch.nn.Module, layout: list[dict], initial: Region) -> None:
    """Puts the initial weights back, in place, so that compiled code stays valid."""
    current = tensors(model)
    with torch.no_grad():
        for slot in layout:
            saved = initial.tensor(slot["offset"], DTYPES[slot["dtype"]], slot["shape"])
            current[slot["name"]].copy_(saved)
    prepare(model)


def perturb(model: torch.nn.Module, seed: int) -> None:
    """Adds noise to every parameter, so that a warm-up says nothing about the timed run."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * WARM_UP_NOISE
            parameter.add_(noise.to(parameter.device, parameter.dtype))


def dump(found: dict, layout: list[dict], results: Region) -> list[dict | None]:
    """Writes each tensor of `found` to its place in `results`.

    Says for each place what was found: its dtype and shape, or None. A tensor that does not fit its
    place is not written.
    """
    answers: list[dict | None] = []
    with torch.no_grad():
        for slot in layout:
            value = found.get(slot["name"])
            if type(value) not in (torch.Tensor, torch.nn.Parameter):
                answers.append(None)
                continue
            dtype = DTYPE_NAMES.get(value.dtype, str(value.dtype))
            answers.append({"dtype": dtype, "shape": list(value.shape)})
            if dtype == slot["dtype"] and list(value.shape) == slot["shape"]:
                place = results.tensor(slot["offset"], value.dtype, slot["shape"])
                place.copy_(value.detach())
    return answers
