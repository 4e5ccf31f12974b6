"""The model: loading it, naming its tensors, putting its weights back."""

import torch
from shared import DTYPE_NAMES, DTYPES, Region

WARM_UP_NOISE = 1e-3
"""Standard deviation of what is added to every weight for the warm-up."""


def load(source: dict, dtype: str, device: torch.device) -> torch.nn.Module:
    """The causal LM: at random from `source["config"]`, or from the folder `source["folder"]`.

    `dtype` is the name of one, or `auto`: bfloat16 on an accelerator, float32 on a CPU.
    """
    # Here and not at the top: the import takes seconds, and the greeting should not.
    from transformers import AutoConfig, AutoModelForCausalLM

    if dtype == "auto":
        dtype = "bfloat16" if device.type == "cuda" else "float32"
    dtype = DTYPES[dtype]
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


def form(value) -> dict | None:
    """Dtype and shape of what should be a tensor; None for anything else."""
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        return None
    dtype = DTYPE_NAMES.get(value.dtype, str(value.dtype))
    return {"dtype": dtype, "shape": list(value.shape)}


def fits(found: dict | None, slot: dict) -> bool:
    """True if a tensor of that form is what `slot` describes."""
    return found is not None and all(found[key] == slot[key] for key in ("dtype", "shape"))


def dump(found: dict, layout: list[dict], region: Region) -> list[dict | None]:
    """Writes each tensor of `found` to its place in `region`, and says of each what was found.

    A tensor that does not fit its place is not written.
    """
    forms = []
    with torch.no_grad():
        for slot in layout:
            value = found.get(slot["name"])
            forms.append(form(value))
            if fits(forms[-1], slot):
                region.tensor(slot["offset"], value.dtype, slot["shape"]).copy_(value.detach())
    return forms


class Sample:
    """Some elements of each tensor: where they are, and where their values go."""

    def __init__(self, layout: list[dict], sampled: list[dict], positions: Region) -> None:
        """`layout` describes the whole tensors, `sampled` the places of the chosen values.

        `positions` holds 64-bit positions in the flattened tensors, tensor after tensor.
        """
        self._layout = layout
        self._sampled = sampled
        self._positions = []
        offset = 0
        for slot in sampled:
            shape = slot["shape"]
            self._positions.append(positions.tensor(offset, torch.int64, shape))
            offset += 8 * shape[0]

    def write(self, found: dict, region: Region, offset: int = 0) -> list[dict | None]:
        """Writes the chosen elements of `found` to `region`, and says of each tensor what it is.

        A tensor that is not of the model's form is not written.
        """
        forms = []
        with torch.no_grad():
            for whole, slot, positions in zip(self._layout, self._sampled, self._positions):
                value = found.get(whole["name"])
                forms.append(form(value))
                if fits(forms[-1], whole):
                    chosen = value.detach().reshape(-1)[positions.to(value.device)]
                    place = region.tensor(offset + slot["offset"], value.dtype, slot["shape"])
                    place.copy_(chosen)
        return forms
