"""The model: loading it, naming its tensors, putting its weights back."""

import torch
from shared import DTYPE_NAMES, DTYPES, Region

WARM_UP_NOISE = 1e-3
"""Standard deviation of what is added to every weight for the warm-up."""

_ELEMENTS_AT_ONCE = 1 << 22


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
    """What is asked of the weights: some elements of each tensor, and sketches of the large ones.

    A sketch is the products l @ W @ r of the matrix W with pairs of vectors of signs. Whoever has
    not computed all of W cannot know them.
    """

    def __init__(self, layout: list[dict], asked: dict, question: Region, device) -> None:
        """`layout` describes the whole tensors, `asked` what is asked for and where that goes.

        `question` holds 64-bit positions in the flattened tensors, tensor after tensor, and then
        the left and the right signs (8-bit, a row for each row or column of a matrix).
        """
        self._layout = layout
        self._sampled = asked["sampled"]
        self._sketched = {sketch["tensor"]: sketch for sketch in asked["sketched"]}
        self._device = device
        self._positions = []
        offset = 0
        for slot in self._sampled:
            shape = slot["shape"]
            self._positions.append(question.tensor(offset, torch.int64, shape))
            offset += 8 * shape[0]
        self._signs = []
        for rows in (asked["sketch_rows"], asked["sketch_columns"]):
            signs = question.tensor(offset, torch.int8, [rows, asked["projections"]])
            # Not float32: its products are rounded to ten bits where TF32 is allowed.
            self._signs.append(signs.to(device, torch.float64))
            offset += rows * asked["projections"]

    def write(self, found: dict, region: Region, offset: int = 0) -> list[dict | None]:
        """Writes what is asked for of `found` to `region`, and says of each tensor what it is.

        A tensor that is not of the model's form is not written.
        """
        forms = []
        with torch.no_grad():
            for index, (whole, slot) in enumerate(zip(self._layout, self._sampled)):
                value = found.get(whole["name"])
                forms.append(form(value))
                if not fits(forms[-1], whole):
                    continue
                value = value.detach()
                chosen = value.reshape(-1)[self._positions[index].to(value.device)]
                place = region.tensor(offset + slot["offset"], value.dtype, slot["shape"])
                place.copy_(chosen)
                sketch = self._sketched.get(index)
                if sketch is not None:
                    products = self._products(value, sketch["rows"], sketch["columns"])
                    shape = list(products.shape)
                    region.tensor(offset + sketch["offset"], torch.float32, shape).copy_(products)
        return forms

    def _products(self, value: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        matrix = value.reshape(rows, columns)
        left, right = self._signs
        products = torch.zeros(left.shape[1], dtype=torch.float64, device=self._device)
        # Widened in parts: all at once would take four times the memory of the largest tensor.
        at_once = max(1, _ELEMENTS_AT_ONCE // columns)
        for start in range(0, rows, at_once):
            part = matrix[start : start + at_once].to(self._device, torch.float64)
            products += ((part @ right[:columns]) * left[start : start + len(part)]).sum(0)
        return products
