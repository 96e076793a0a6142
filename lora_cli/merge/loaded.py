"""An adapter's file loaded by peft, and what peft holds then compared with the file.

What the tensors do to the base is not known here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import PREFIX
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]


def load_adapter(model: Any, folder: Path, tensors: Tensors) -> Any:
    """Return peft's model of the adapter in `folder`, whose file holds `tensors`, on a base.

    Raises:
        MergeError: peft does not load it, or not as it was saved.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is loaded is compared with the file
            adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:  # each of peft's methods refuses in its own way
        message = f"peft cannot load it: {reason_of(error)}"
        hint = "is this the right base, and is peft new enough?"
        raise MergeError(message, str(folder), hint) from error
    check_tensors(adapted, tensors, str(folder))
    return adapted


def check_tensors(adapted: Any, tensors: Tensors, adapter: str) -> None:
    """Check that the adapter in memory is the one in the file: peft passes over foreign tensors.

    Raises:
        MergeError: a tensor is left over, missing, or another one than was saved; all are told.
    """
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        own = get_peft_model_state_dict(adapted, save_embedding_layers=True)
    own |= {
        PREFIX + name: parameter
        for name, parameter in adapted.get_base_model().named_parameters(remove_duplicate=False)
    }
    wrong = []
    for name in sorted(tensors.keys() | held.keys()):
        loaded = held.get(name, own.get(name))
        if loaded is None:
            wrong.append(f"`{name}` would be lost: peft does not load it")
        elif name not in tensors:
            wrong.append(f"`{name}` is missing: peft would make it up")
        elif not loaded.float().equal(tensors[name].float()):
            wrong.append(f"peft loads other values for `{name}` than were saved")
    if wrong:
        more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        raise MergeError(wrong[0] + more, adapter)
