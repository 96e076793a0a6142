"""What `loracli train` saves is exported as its capability row says: exactly, nearly, or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_cli.errors import ExportError, MergeError
from lora_cli.merge.export import ExportResult, export_lora
from lora_cli.merge.truncate import Limit
from tests.helpers.adapters import adapted_logits, logits
from tests.helpers.merges import merge_into
from tests.helpers.methods import NOTICES
from tests.helpers.runs import plan_of, train, write_recipe
from tests.helpers.serving import llama_cpp_logits, vllm_logits
from tests.helpers.variant_docs import variants

pytestmark = NOTICES
TinyModel = Callable[[str], Path]
FIELDS: dict[str, dict[str, Any]] = {
    "nora": {"outer_rank": 8},
    "oft": {"block_size": 8},
    "boft": {"block_size": 4},
    "fourierft": {"frequencies": 100},
}
PLAIN = {name: kind.capability for name, kind in variants().items() if not kind.capability.plain}
ON_GPT2 = [name for name, row in PLAIN.items() if not row.conv1d]
RANKS = {"rank": 4, "twice the rank": 8, "rank squared": 16}


def trained(folder: Path, base: Path, variant: str, **sections: Any) -> Path:
    """Train a run of a few steps; return its directory."""
    steps = {"steps": 6, "learning_rate": 0.05}
    file = write_recipe(folder, base, training=steps, **sections)
    recipe = yaml.safe_load(file.read_text("utf-8"))
    ranked = {"rank": 4} if "rank" in variants()[variant].model_fields else {}
    recipe["adapter"] = {"variant": variant, **ranked, **FIELDS.get(variant, {})}
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    train(plan_of(file))
    return folder / "run"


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [*[("llama", name) for name in PLAIN], *[("gpt2", name) for name in ON_GPT2]],
)
def test_a_run_is_exported_as_its_method_declares(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, variant: str
) -> None:
    base = tiny_model(architecture)
    run = trained(tmp_path, base, variant)
    exports = PLAIN[variant].exports
    if exports == "none":
        _check_merge(run, PLAIN[variant].merge, torch.empty(0))
        with pytest.raises(ExportError, match="serve it with peft"):
            export_lora(run, tmp_path / "served", Limit())
        return
    if exports == "approximation":
        with pytest.raises(ExportError, match=r"--error 0\.05, or a rank"):
            export_lora(run, tmp_path / "served", Limit())
    limit = Limit(error=1e-5) if exports == "approximation" else Limit()
    result = export_lora(run, tmp_path / "served", limit)
    assert result.error <= (limit.error or 0)
    assert result.rank == RANKS.get(exports, result.rank)
    adapted = adapted_logits(base, run / "adapter")
    _check_merge(run, PLAIN[variant].merge, adapted)
    for served in (vllm_logits, llama_cpp_logits, adapted_logits):
        found = served(base, tmp_path / "served")
        torch.testing.assert_close(found, adapted, atol=1e-5, rtol=0)
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    assert not torch.allclose(adapted, plain, atol=1e-3)
    assert (tmp_path / "served" / "chat_template.jinja").is_file()


def _check_merge(run: Path, refusal: str, adapted: torch.Tensor) -> None:
    """Check that a run merges to the adapted model, unless its method declares that it does not."""
    merged = run.parent / "merged"
    if refusal:
        with pytest.raises(MergeError, match="changes no weight"):
            merge_into(merged, run)
        return
    merge_into(merged, run)
    found = logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32))
    # the weight is rounded once more than in base + adapter
    torch.testing.assert_close(found, adapted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["lora", "loftq", "pissa"])
def test_a_run_on_a_quantized_base_is_exported_for_that_base(
    tmp_path: Path, tiny_model: TinyModel, variant: str
) -> None:
    run = trained(tmp_path, tiny_model("llama"), variant, quantization="nf4")
    result = export_lora(run, tmp_path / "served", Limit())
    own = (run / "base").is_dir()
    assert own is (variant == "pissa")
    if own:
        assert result.notes == [
            f"its base is the run's own: serve it on {run / 'base'}, and on no other"
        ]
    else:
        assert result.notes == ["trained on a base in nf4: serve it on a base held in nf4 too"]
    assert (
        why_not(result, "llama.cpp") == "it holds no base in nf4, which this adapter was trained on"
    )
    base = run / "base" if own else tiny_model("llama")
    settings = json.loads((tmp_path / "served" / "adapter_config.json").read_text("utf-8"))
    assert settings["base_model_name_or_path"] == str(base)
    found = [held_logits(base, folder) for folder in (run / "adapter", tmp_path / "served")]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


def why_not(result: ExportResult, name: str) -> str:
    return next(server.why_not for server in result.servers if server.name == name)


def held_logits(base: Path, adapter: Path) -> torch.Tensor:
    """Return the logits in plain peft on the base in nf4, as it is held in its files or now."""
    from transformers import BitsAndBytesConfig

    held: dict[str, Any] = {}
    if "quantization_config" not in json.loads((base / "config.json").read_text("utf-8")):
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        held = {"quantization_config": settings}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **held)
    for module in model.modules():
        module.support_avx512bf16_for_cpu = False
    return logits(PeftModel.from_pretrained(model, adapter).eval())
