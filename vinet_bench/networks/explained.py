"""The classifier that methods explain: built so that libraries can follow it, or loaded."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vinet_bench.errors import UserError
from vinet_bench.networks.foreign import Resized

NESTED = ("state_dict", "model")  # under which training loops save the weights among others


def without_inplace(model: nn.Module) -> nn.Module:
    """The same network, none of whose modules overwrites its input: captum and zennit read the
    tensors on both sides of a module."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    return model


def load_weights(model: nn.Module, name: str, file: Path) -> nn.Module:
    """The network `name` with the weights of a file (safetensors, or a state dict of torch.save).

    Raises UserError if the file does not read, or does not fit.
    """
    network = model.network if isinstance(model, Resized) else model
    weights = _read(file)
    misfits = _misfits(network.state_dict(), weights)
    if misfits:
        more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        raise UserError(
            f"--checkpoint {file} does not fit {name} for this data: {misfits[0]}{more}; name its"
            " network with --explain"
        )
    network.load_state_dict(weights)
    return model


def _read(file: Path) -> dict[str, Tensor]:
    try:
        _check_stored(file)
        if file.suffix == ".safetensors":
            return dict[str, Tensor](load_file(file))
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"--checkpoint {file} does not read as safetensors ({error})") from None
    except Exception:  # a damaged or pickled file makes torch raise almost anything
        raise UserError(
            f"--checkpoint {file} does not read as weights alone: save the network's state_dict()"
            " with torch.save or safetensors"
        ) from None
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(map(_is_plain, found.values())):
        raise UserError(f"--checkpoint {file} holds no state_dict (names of weights with tensors)")
    return dict[str, Tensor](found)


def _check_stored(file: Path) -> None:
    """Raises ValueError for a compressed archive, which torch.save never writes: it may grow a
    thousandfold."""
    if is_zipfile(file):
        with ZipFile(file) as archive:
            if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed")


def _is_plain(value: object) -> bool:
    """Whether it is a tensor of real numbers that holds all of them."""
    if not isinstance(value, Tensor) or value.is_complex() or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _misfits(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """What lacks, has another shape, is not finite, or is too much, in the network's order."""
    found = []
    for name, weight in wanted.items():
        if name not in given:
            found.append(f"{name} is missing")
        elif given[name].shape != weight.shape:
            found.append(f"{name} is {tuple(given[name].shape)}, not {tuple(weight.shape)}")
        elif not torch.isfinite(given[name]).all():
            found.append(f"{name} has values that are not finite")
    return [*found, *(f"{name} is unknown to it" for name in given if name not in wanted)]
