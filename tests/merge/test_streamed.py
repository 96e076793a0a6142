"""A model that is asked module by module answers as the loaded one, and holds no weight then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.checkpoint import open_checkpoint
from lora_cli.merge.proof import answers, ask_checkpoint, probes_for
from lora_cli.merge.storage import by_parameter, storages
from lora_cli.merge.streamed import reader, streaming
from lora_cli.merge.weightless import load_config, weightless_model
from tests.helpers.adapters import TARGETS, make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("architecture", ["llama", "tied_llama", "gpt2", "qwen2"])
def test_answers_are_those_of_the_loaded_model(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base = tiny_model(architecture)
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, TARGETS[architecture]))
    probes = probes_for(adapter, load_config(base))
    streamed = ask_checkpoint(base, "AutoModelForCausalLM", probes)
    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    torch.testing.assert_close(streamed, answers(loaded.eval(), probes), atol=1e-6, rtol=0)


def test_weights_are_there_only_while_their_module_works(tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    places = by_parameter(storages(model, open_checkpoint(base))[0])
    read = reader(places, {})
    most: list[int] = []

    def counted(name: str) -> torch.Tensor:
        held = [each for each in model.parameters() if any(each.stride())]
        most.append(len(held))
        return read(name)

    with streaming(dict(model.named_modules()), counted):
        model(input_ids=torch.arange(2, 10)[None])
    assert len(most) == len(places)
    assert max(most) == 0  # each module of a Llama has one parameter of its own
    assert not any(any(each.stride()) for each in model.parameters())
    with torch.no_grad():
        assert model(input_ids=torch.arange(2, 10)[None]).logits.isnan().all()


def test_weights_are_taken_out_again_when_a_module_fails(tiny_model: TinyModel) -> None:
    model = weightless_model(load_config(tiny_model("llama")), "AutoModelForCausalLM")
    with (
        pytest.raises(MergeError, match=r"`model\.embed_tokens\.weight` is not in the files"),
        streaming(dict(model.named_modules()), reader({}, {})),
    ):
        model(input_ids=torch.arange(2, 10)[None])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_its_weights_cannot_be_taken_for_alike(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """What was not streamed is no number, and so no answer."""
    base = tiny_model("llama")
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, ["q_proj"]))
    with pytest.raises(MergeError, match="cannot be asked module by module"):
        answers(model, probes_for(adapter, model.config))
