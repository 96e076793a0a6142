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
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.console.merge import show_merge
from lora_cli.errors import MergeError
from lora_cli.merge import merge as module
from lora_cli.merge import writing
from tests.helpers.adapters import (
    TARGETS,
    adapted_logits,
    change_config,
    change_tensors,
    logits,
    make_adapter,
    peft_merged,
    save_as,
    stored,
)
from tests.helpers.merges import merge_into
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
    merged = merge_into(tmp_path / "merged", tmp_path / "run")
    assert merged.adapter == str(tmp_path / "run" / "adapter")
    assert merged.base == plan.model.folder
    assert merged.output == str(tmp_path / "merged")
    assert merged.tensors == len(stored(tmp_path / "merged")) == 21
    assert (merged.changed_tensors, merged.adapter_tensors) == (14, 28)
    files = list((tmp_path / "merged").iterdir())
    sizes = {path.name: path.stat().st_size for path in files}
    assert merged.bytes_written == sum(sizes.values()) - sizes["merge_report.json"]
    assert {path.name for path in files} == {
        "config.json",
        "generation_config.json",
        "merge_report.json",
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
    merge_into(tmp_path / "merged", adapter)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == "own template"


def test_shards_stay_shards_under_a_true_index(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.float32, max_shard_size="40KB")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS["llama"])
    merge_into(tmp_path / "merged", adapter)
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
    merge_into(tmp_path / "merged", adapter)
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
    merge_into(tmp_path / "merged", adapter)
    assert "h.0.attn.c_attn.weight" in stored(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = logits(PeftModel.from_pretrained(plain, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)


def test_a_gguf_base_is_dequantised_and_merged(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", tensors=tensors(Kind.Q8_0))
    plan = plan_of(write_recipe(tmp_path, gguf))
    train(plan)
    result = merge_into(tmp_path / "merged", tmp_path / "run")
    assert result.base == str(gguf)
    adapter = tmp_path / "run" / "adapter"
    theirs = peft_merged(Path(plan.model.folder), adapter, torch.bfloat16)
    assert all(tensor.equal(theirs[name]) for name, tensor in stored(tmp_path / "merged").items())


def add_pair(held: dict[str, torch.Tensor], name: str, inputs: int, outputs: int) -> None:
    held[f"base_model.model.{name}.lora_A.weight"] = torch.ones(4, inputs)
    held[f"base_model.model.{name}.lora_B.weight"] = torch.ones(outputs, 4)


def test_an_untied_head_is_merged(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj", "lm_head"])
    merge_into(tmp_path / "merged", adapter)
    theirs = peft_merged(base, adapter, torch.float32)["lm_head.weight"]
    assert stored(tmp_path / "merged")["lm_head.weight"].equal(theirs)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_layers_that_share_a_weight_get_one_each_where_the_adapter_sets_them_apart(
    tmp_path: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all else that the config's one word for ties sets free, or it would be made up."""
    base = tiny_model("zamba2")
    shared = make_adapter(tmp_path / "shared", base, ["q_proj"])
    merged = merge_into(tmp_path / "untied", shared, verify=True)
    assert merged.untied[0] == "model.layers.1.shared_transformer.self_attn.q_proj.weight"
    assert "lm_head.weight" in merged.untied
    show_merge(merged, Console())
    assert f"{len(merged.untied) - 3} more: shared with no other" in capsys.readouterr().out
    loaded, told = AutoModelForCausalLM.from_pretrained(
        tmp_path / "untied", dtype=torch.float32, output_loading_info=True
    )
    assert not told["missing_keys"]
    torch.testing.assert_close(logits(loaded), adapted_logits(base, shared), atol=1e-5, rtol=0)
    own = make_adapter(tmp_path / "own", base, ["in_proj"])
    assert merge_into(tmp_path / "tied", own, verify=True).untied == ()
    assert stored(tmp_path / "tied").keys() == stored(base).keys()


def test_an_update_without_a_place_in_the_base_is_an_error(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    change_tensors(adapter, lambda held: add_pair(held, "model.layers.7.mlp.up_proj", 32, 64))
    message = r"`base_model\.model\.model\.layers\.7\.mlp\.up_proj\.\S+` would be lost: .* 1 more"
    with pytest.raises(MergeError, match=message):
        merge_into(tmp_path / "merged", adapter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_base_of_other_shapes_is_an_error(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    other = make_tiny_model(tmp_path / "other", "llama")
    change_config(adapter, base_model_name_or_path=str(other))
    change_tensors(adapter, widen)
    with pytest.raises(
        MergeError, match=r"\(32, 48\) does not fit the base's \(32, 32\).*1 more.*right base"
    ):
        merge_into(tmp_path / "merged", adapter)
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
            merge_into(tmp_path / name, adapter)
    assert (tmp_path / "full" / "thesis.tex").exists()
    (tmp_path / "empty").mkdir()
    merge_into(tmp_path / "empty", adapter)
    assert (tmp_path / "empty" / "model.safetensors").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_merge_that_breaks_off_leaves_nothing(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """As a full disk does, or Ctrl-C, at the third place that is written to."""
    write_all, calls = writing._write_all, []

    def third_breaks(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        write_all(*arguments)

    monkeypatch.setattr(writing, "_write_all", third_breaks)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else MergeError
    with pytest.raises(expected) as caught:
        merge_into(tmp_path / "merged", adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    if expected is MergeError:
        assert "cannot be written: No space left on device" in str(caught.value)


def test_too_little_space_is_said_before_the_first_byte(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(9, 8, 1))
    monkeypatch.setattr(module, "new_folder", None)
    with pytest.raises(MergeError, match=r"needs \S+ MB, and the disk has 0\.00 MB left"):
        merge_into(tmp_path / "new" / "merged", adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_only_a_checkpoint_is_overwritten_and_only_when_told(adapter: Path, tmp_path: Path) -> None:
    merge_into(tmp_path / "merged", adapter)
    change_tensors(
        adapter, lambda held: held.update({name: -held[name] for name in held if "_A" in name})
    )
    with pytest.raises(MergeError, match="exists already"):
        merge_into(tmp_path / "merged", adapter)
    before = stored(tmp_path / "merged")
    merge_into(tmp_path / "merged", adapter, overwrite=True)
    after = stored(tmp_path / "merged")
    assert sum(not after[name].equal(before[name]) for name in before) == 2
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").touch()
    (tmp_path / "papers" / "config.json").write_text("{}")  # as any model has one
    with pytest.raises(MergeError, match=r"has no merge_report\.json: it is not overwritten"):
        merge_into(tmp_path / "papers", adapter, overwrite=True)
    assert (tmp_path / "papers" / "thesis.tex").exists()


def test_what_was_put_beside_a_merge_stays(adapter: Path, tmp_path: Path) -> None:
    base = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    own = Path(shutil.copytree(base["base_model_name_or_path"], tmp_path / "base"))
    (own / "modeling_own.py").touch()
    merged, merging = tmp_path / "merged", {"base": str(own), "any_base": True}
    written = merge_into(merged, adapter, **merging).files
    assert written == sorted(path.name for path in merged.iterdir())
    assert {"merge_report.json", "modeling_own.py"} < set(written)
    (merged / "eval_results.json").write_text("precious")
    with pytest.raises(MergeError, match=r"holds `eval_results\.json`, which was put there since"):
        merge_into(merged, adapter, **merging, overwrite=True)
    assert (merged / "eval_results.json").read_text() == "precious"
    (merged / "eval_results.json").unlink()
    assert merge_into(merged, adapter, **merging, overwrite=True).files == written


def test_a_merge_goes_where_a_link_leads(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "far" / "merged")
    for overwrite in (False, True):
        merge_into(tmp_path / "link", adapter, overwrite=overwrite)
    assert (tmp_path / "far" / "merged" / "model.safetensors").is_file()
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "far", "link"]
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["merged"]


@pytest.mark.parametrize("what", ["base", "adapter", "."])
def test_what_is_merged_is_never_overwritten(
    tmp_path: Path, tiny_model: TinyModel, what: str
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    for folder in (base, adapter, tmp_path):
        (folder / "merge_report.json").write_text("{}")
    with pytest.raises(MergeError, match="holds what is read: it is not overwritten"):
        merge_into(tmp_path / what, adapter, overwrite=True)
    assert (base / "model.safetensors").is_file()
    assert (adapter / "adapter_model.safetensors").is_file()


def test_the_place_to_write_is_beside_an_adapter_or_in_its_run(
    adapter: Path, tmp_path: Path
) -> None:
    assert merge_into(tmp_path, adapter, output=None).output == str(tmp_path / "adapter-merged")
    shutil.copytree(adapter, tmp_path / "run" / "adapter")
    told = merge_into(tmp_path, tmp_path / "run", output=None)
    assert told.output == str(tmp_path / "run" / "merged")


def test_what_is_not_changed_is_copied_to_the_byte(tmp_path: Path, tiny_model: TinyModel) -> None:
    """Numbers that are none among them, and tensors that the model has no place for."""
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    odd = torch.tensor([float("nan"), -0.0, float("inf")])
    held = {**stored(base), "extra": odd, "mask": torch.tensor([True, False])}
    save_file(held, base / "model.safetensors", metadata={"format": "pt"})
    merge_into(tmp_path / "merged", adapter)
    after = stored(tmp_path / "merged")
    assert after.keys() == held.keys()
    changed = [n for n in held if not bits(held[n]).equal(bits(after[n]))]
    assert len(changed) == 2
    assert all("q_proj" in name for name in changed)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_another_type_is_written_of_all_floats_rounded_once(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base = tiny_model(architecture)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS[architecture])
    merge_into(tmp_path / "full", adapter)
    merge_into(tmp_path / "half", adapter, dtype="bfloat16", max_shard_bytes=30_000)
    full, half = stored(tmp_path / "full"), stored(tmp_path / "half")
    assert full.keys() == half.keys()
    assert all(half[name].equal(each.bfloat16()) for name, each in full.items())
    index = json.loads((tmp_path / "half" / "model.safetensors.index.json").read_text("utf-8"))
    size = sum(each.numel() * 2 for each in half.values())
    assert index["metadata"]["total_size"] == size
    for file in set(index["weight_map"].values()):
        tensors_of = load_file(tmp_path / "half" / file)
        assert len(tensors_of) == 1 or sum(2 * t.numel() for t in tensors_of.values()) <= 30_000
    config = json.loads((tmp_path / "half" / "config.json").read_text("utf-8"))
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert model.dtype == torch.bfloat16


FAULTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "foreign": (lambda t: t.update(extra=torch.zeros(1)), r"`?extra`? ?.*lost|lost.*`extra`"),
    "no B": (lambda t: t.pop(next(n for n in t if "lora_B" in n)), "has an A but no B|is missing"),
    "shape": (
        lambda t: t.update({next(n for n in t if "lora_A" in n): torch.zeros(4, 7)}),
        "does not fit|cannot load it|size mismatch",
    ),
    "not finite": (lambda t: next(iter(t.values())).fill_(float("nan")), "are not finite"),
    "several": (lambda t: [t.pop(n) for n in list(t) if "lora_B" in n], "no B|is missing"),
}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_adapter_with_a_fault_is_refused_and_nothing_is_written(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, fault: str
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model(architecture), TARGETS[architecture])
    change, said = FAULTS[fault]
    change_tensors(adapter, change)
    with pytest.raises(MergeError, match=said):
        merge_into(tmp_path / "merged", adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_unknown_setting_is_refused(adapter: Path, tmp_path: Path) -> None:
    change_config(adapter, use_what_comes_next_year=3)
    with pytest.raises(MergeError, match="does not know the setting `use_what_comes_next_year`"):
        merge_into(tmp_path / "merged", adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


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
    message = "is cut off" if what == "cut" else "has no weights in model.*safetensors"
    with pytest.raises(MergeError, match=message):
        merge_into(tmp_path / "merged", adapter)
    assert not (tmp_path / "merged").exists()
