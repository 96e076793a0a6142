"""A merged checkpoint: complete, whole or not there, and nothing of the adapter lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.errors import MergeError
from lora_cli.merge import merge as module
from lora_cli.merge.merge import merge_adapter
from tests.helpers.adapters import (
    TARGETS,
    change_config,
    change_tensors,
    logits,
    make_adapter,
    peft_merged,
    save_as,
    stored,
)
from tests.helpers.model_folders import write_gguf
from tests.helpers.runs import PLAIN_PEFT, plan_of, train, write_recipe
from tests.helpers.tiny_models import make_tiny_model
from tests.model.test_weights import tensors

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def test_a_run_merges_by_its_directory_and_keeps_its_tokenizer(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    train(plan)
    merged = merge_adapter(tmp_path / "run", tmp_path / "merged")
    assert merged.adapter == str(tmp_path / "run" / "adapter")
    assert merged.base == plan.model.folder
    assert merged.output == str(tmp_path / "merged")
    assert merged.tensors == len(stored(tmp_path / "merged")) == 21
    assert (merged.changed_tensors, merged.adapter_tensors) == (14, 28)
    files = list((tmp_path / "merged").iterdir())
    assert merged.bytes_written == sum(path.stat().st_size for path in files)
    assert {path.name for path in files} == {
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(plan.model.folder).chat_template


def test_an_adapters_own_tokenizer_goes_before_the_bases(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "own template"
    tokenizer.save_pretrained(adapter)
    merge_adapter(adapter, tmp_path / "merged")
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == "own template"


def test_shards_stay_shards_under_a_true_index(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.float32, max_shard_size="40KB")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS["llama"])
    merge_adapter(adapter, tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "merged").glob("*.safetensors")) == shards
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text("utf-8"))
    for name, shard in index["weight_map"].items():
        with safe_open(tmp_path / "merged" / shard, framework="pt") as file:
            assert name in file.keys()  # noqa: SIM118
    theirs = peft_merged(base, adapter, torch.float32)
    assert all(tensor.equal(theirs[name]) for name, tensor in stored(tmp_path / "merged").items())


def test_files_beside_the_weights_are_not_taken_for_weights(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    for name in ("consolidated.safetensors", "adapter_model.safetensors"):
        shutil.copy(base / "model.safetensors", base / name)
    (base / "adapter_config.json").write_text("{}")  # transformers would load that adapter too
    (base / "picture.png").touch()
    merge_adapter(adapter, tmp_path / "merged")
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert "model.safetensors" in names
    unwanted = {"consolidated.safetensors", "adapter_model.safetensors", "adapter_config.json"}
    assert not names & (unwanted | {"picture.png"})


def test_a_base_without_the_heads_prefix_is_understood(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """As the first GPT-2 checkpoints on the hub are, which transformers still loads."""
    base = Path(shutil.copytree(tiny_model("gpt2"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS["gpt2"])

    def strip(held: dict[str, torch.Tensor]) -> None:
        for name in list(held):
            held[name.removeprefix("transformer.")] = held.pop(name)

    held = load_file(base / "model.safetensors")
    strip(held)
    save_file(held, base / "model.safetensors", metadata={"format": "pt"})
    merge_adapter(adapter, tmp_path / "merged")
    assert "h.0.attn.c_attn.weight" in stored(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = logits(PeftModel.from_pretrained(plain, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)


def test_a_gguf_base_is_dequantised_and_merged(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", tensors=tensors(Kind.Q8_0))
    plan = plan_of(write_recipe(tmp_path, gguf))
    train(plan)
    result = merge_adapter(tmp_path / "run", tmp_path / "merged")
    assert result.base == plan.model.folder
    adapter = tmp_path / "run" / "adapter"
    theirs = peft_merged(Path(plan.model.folder), adapter, torch.bfloat16)
    assert all(tensor.equal(theirs[name]) for name, tensor in stored(tmp_path / "merged").items())


def test_a_weight_tied_to_another_is_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    """Folding it would change the embeddings too, or be lost when the file is loaded."""
    base = tiny_model("tied_llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    change_tensors(adapter, lambda held: add_pair(held, "lm_head", 32, 259))
    with pytest.raises(MergeError, match="`lm_head` shares its weight with another module"):
        merge_adapter(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def add_pair(held: dict[str, torch.Tensor], name: str, inputs: int, outputs: int) -> None:
    held[f"base_model.model.{name}.lora_A.weight"] = torch.ones(4, inputs)
    held[f"base_model.model.{name}.lora_B.weight"] = torch.ones(outputs, 4)


def test_an_untied_head_is_merged(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj", "lm_head"])
    merge_adapter(adapter, tmp_path / "merged")
    theirs = peft_merged(base, adapter, torch.float32)["lm_head.weight"]
    assert stored(tmp_path / "merged")["lm_head.weight"].equal(theirs)


def test_an_update_without_a_place_in_the_base_is_an_error(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    change_tensors(adapter, lambda held: add_pair(held, "model.layers.7.mlp.up_proj", 32, 64))
    message = r"no tensor for 1 of 3 updates, among them `model\.layers\.7\.mlp\.up_proj\.weight`"
    with pytest.raises(MergeError, match=message):
        merge_adapter(adapter, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_base_of_other_shapes_is_an_error(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    other = make_tiny_model(tmp_path / "other", "llama")
    change_config(adapter, base_model_name_or_path=str(other))
    change_tensors(adapter, widen)
    with pytest.raises(
        MergeError, match=r"\(32, 48\) does not fit the base's \(32, 32\).*right base"
    ):
        merge_adapter(adapter, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "other"]


def widen(held: dict[str, torch.Tensor]) -> None:
    for name in held:
        if "lora_A" in name:
            held[name] = torch.ones(4, 48)


def test_an_existing_output_is_left_alone(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(MergeError, match=rf"{name}: exists already.*another --output"):
            merge_adapter(adapter, tmp_path / name)
    assert (tmp_path / "full" / "thesis.tex").exists()
    (tmp_path / "empty").mkdir()
    merge_adapter(adapter, tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_merge_that_breaks_off_leaves_nothing(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.float32, max_shard_size="40KB")
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS["llama"])
    fold_shard, folded = module.fold_shard, []

    def second_breaks(*arguments: Any) -> Any:
        folded.append(arguments[0])
        if len(folded) == 2:
            raise error
        return fold_shard(*arguments)

    monkeypatch.setattr(module, "fold_shard", second_breaks)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else MergeError
    with pytest.raises(expected) as caught:
        merge_adapter(adapter, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]
    if expected is MergeError:
        assert "cannot be written: No space left on device" in str(caught.value)


@pytest.mark.parametrize("what", ["no weights", "pickle only", "lost shard", "cut"])
def test_a_base_without_whole_safetensors_is_an_error(
    tmp_path: Path, tiny_model: TinyModel, what: str
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").unlink()
    if what == "pickle only":
        torch.save({}, base / "pytorch_model.bin")
    elif what == "lost shard":
        index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
        (base / "model.safetensors.index.json").write_text(json.dumps(index))
    elif what == "cut":
        (base / "model.safetensors").write_bytes(content[:-100])
    message = "cannot be read" if what == "cut" else "has no weights in model.*safetensors"
    with pytest.raises(MergeError, match=message):
        merge_adapter(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_base_is_read_once(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is loaded, and each shard's tensors are taken out of the file once."""
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])

    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded into a model")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    merge_adapter(adapter, tmp_path / "merged")
    assert len(stored(tmp_path / "merged")) == 21
