"""`loracli inspect-targets`: what it prints, and what it refuses with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.architectures import SMALL_CONFIGS
from tests.helpers.model_folders import TINY, config_folder, raw_config, write_gguf

Call = Callable[..., tuple[int, str, str]]
ROWS = '{"prompt": "1+1", "completion": "2"}\n'


@pytest.fixture
def inspect(loracli: Call) -> Call:
    """Return a function that runs the command and gives (exit code, output, errors)."""
    return partial(loracli, "inspect-targets")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return config_folder(tmp_path / "llama", "LlamaConfig", **TINY)


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    values = {**TINY, "num_experts": 4, "moe_intermediate_size": 16, "mlp_only_layers": [0]}
    return config_folder(tmp_path / "experts", "Qwen3MoeConfig", **values)


def line_of(output: str, start: str) -> str:
    (line,) = [each for each in output.splitlines() if each.startswith(start)]
    return " ".join(line.split())


def test_what_is_shown(inspect: Call, llama: Path) -> None:
    code, output, errors = inspect(llama, "--rank", 4)
    assert (code, errors) == (0, "")
    assert "(LlamaForCausalLM, 37.2k parameters, 2 layers, untied)" in output
    assert "modules  14 of 14 linear layers inside the model" in output
    assert line_of(output, "attention q") == (
        "attention q model.layers.*.self_attn.q_proj 2 0-1 Linear 32 × 32 2.0k yes 512 11.8%"
    )
    assert line_of(output, "attention  ") == "attention 8 2,048 5.22%"
    assert "target_modules=all-linear: 14 modules, 4,352 trainable as plain LoRA" in output
    assert "  the same as our all-linear" in output
    assert "vLLM       vllm serve" in output
    assert "by what their sources say; neither was run" in output
    assert output.endswith("  variant: lora\n  rank: 4\n  target_modules: all-linear\n")


def test_odd_layers_experts_and_what_peft_does_with_them(inspect: Call, experts: Path) -> None:
    code, output, _ = inspect(experts, "--quantization", "nf4")
    assert code == 0
    assert "only in layers 0 of 2: mlp.gate_proj, mlp.up_proj, mlp.down_proj" in output
    assert "warning: the plan will refuse lora on this choice: peft takes" in output
    assert "quantization  nf4: " in output
    assert line_of(output, "experts gate_up_proj").endswith("Parameter 4 × 32 × 32 4.1k no")
    assert "a router decides which expert reads a token" in output
    assert output.endswith("exclude_modules: [gate_proj, up_proj, down_proj]\nquantization: nf4\n")


def test_patterns_are_explained(inspect: Call, llama: Path) -> None:
    code, output, _ = inspect(llama, "--targets", "q_proj,layers.0.*.[qk]_proj")
    assert code == 0
    assert r"as a recipe has it `{regex: (?:.*\.)?layers\.0\..*\.[qk]_proj}`" in output
    assert "  passed by: model.layers.*.self_attn.k_proj (1, layers 1)" in output
    assert (
        "meant twice, by `q_proj` and `layers.0.*.[qk]_proj`: "
        "model.layers.*.self_attn.q_proj (1, layers 0); it is adapted once" in output
    )


def test_towers_touched_by_accident(inspect: Call, tmp_path: Path) -> None:
    from tests.helpers.architectures import SMALL_CONFIGS

    config_class, values = SMALL_CONFIGS["qwen2_5_vl"]
    folder = config_folder(tmp_path / "vl", config_class, **values)
    code, output, _ = inspect(folder)
    assert code == 0
    assert "trains   no task of loracli: it can be looked at, not trained" in output
    assert r"without it: `exclude_modules: {regex: model\.visual\.merger(?:\..*)?}`" in output
    code, output, _ = inspect(folder, "--targets", "language_model.*.q_proj")
    assert code == 0
    assert "warning" not in output


def test_the_tree(inspect: Call, llama: Path) -> None:
    _, output, _ = inspect(llama, "--tree")
    assert "      0-1: 2 × LlamaDecoderLayer, 20.6k" in output
    assert "          q_proj: Linear 32 × 32, 1.0k" in output


def test_json_has_all_of_it(inspect: Call, experts: Path) -> None:
    code, output, _ = inspect(experts, "--json", "--tree", "--targets", "attention,experts")
    values = json.loads(output)
    assert code == 0
    assert values["adapter"]["parameters"] == 2
    groups: list[dict[str, Any]] = values["groups"]
    assert sum(each["parameters"] for each in groups) == values["model"]["parameters"]
    trained = sum(each["trainable_parameters"] for each in groups)
    assert trained == values["adapter"]["trainable_parameters"]
    assert {each["variant"] for each in values["variants"] if not each["why_not"]} == {
        "lora",
        "rslora",
    }
    assert [each["name"] for each in values["servers"]] == ["peft", "vLLM", "llama.cpp"]
    assert "experts in one tensor" in values["servers"][1]["why_not"]
    assert values["tree"]["children"]
    assert yaml.safe_load(values["recipe"])["adapter"]["target_parameters"] == "experts"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--targets", "q_proj,v_proj", "--rank", "8"),
        ("--targets", r"*.self_attn.?_proj", "--variant", "dora"),
        ("--targets", r".*layers\.[01]\.(mlp|self_attn)\..*", "--variant", "rslora"),
        ("--quantization", "nf4", "--variant", "qlora", "--set", "adapter.layers=[0]"),
        ("--set", "adapter.alpha=3", "--set", "adapter.exclude_modules=[o_proj]"),
    ],
    ids=" ".join,
)
def test_the_recipe_it_prints_takes_the_same(
    inspect: Call, llama: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    _, printed, _ = inspect(llama, "--yaml", *arguments)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{printed}dataset: rows.jsonl\n", "utf-8")
    _, asked, _ = inspect(llama, "--json", *arguments)
    code, found, _ = inspect(recipe, "--json")
    assert code == 0
    asked, found = json.loads(asked), json.loads(found)
    assert found["adapter"] == asked["adapter"]
    assert found["quantization"] == asked["quantization"]
    _, again, _ = inspect(recipe, "--yaml")
    assert again == printed


def test_a_recipe_and_its_options(inspect: Call, recipe_file: Callable[..., Path]) -> None:
    recipe = recipe_file(adapter={"variant": "lora", "rank": 4, "target_modules": ["q_proj"]})
    _, output, _ = inspect(recipe, "--json")
    assert json.loads(output)["adapter"]["modules"] == 2
    _, output, _ = inspect(recipe, "--json", "--targets", "attention", "--rank", 2)
    adapter = json.loads(output)["adapter"]
    assert (adapter["modules"], adapter["rank"]) == (8, 2)


def test_what_a_recipe_trains_is_what_its_plan_says(
    inspect: Call, recipe_file: Callable[..., Path]
) -> None:
    from lora_cli.plan.make import make_plan
    from lora_cli.recipe.load import load_recipe

    recipe = recipe_file(adapter={"variant": "dora", "rank": 4, "modules_to_save": ["lm_head"]})
    _, output, _ = inspect(recipe, "--json")
    adapter = json.loads(output)["adapter"]
    plan = make_plan(load_recipe(recipe)).adapter
    assert adapter["trainable_parameters"] == plan.trainable_parameters
    assert adapter["modules"] == len(plan.modules)


def test_a_gguf_file(inspect: Call, tmp_path: Path) -> None:
    code, output, _ = inspect(write_gguf(tmp_path / "model.gguf"), "--json")
    assert code == 0
    assert json.loads(output)["model"]["architecture"] == "LlamaForCausalLM"


def test_no_weights_are_read(inspect: Call, llama: Path) -> None:
    (llama / "model.safetensors").write_bytes(b"no weights at all")
    assert inspect(llama, "--yaml")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said", "advice"),
    [
        (["missing/folder/x"], "there is no model `missing/folder/x`", "a model is a hub id"),
        (
            ["owner/name"],
            "`owner/name` is not in the local cache and HF_HUB_OFFLINE is set",
            "conn",
        ),
        (["{folder}/lama"], "there is no model", "did you mean"),
        (["{llama}", "--rank", "0"], "--rank 0: `adapter.rank` must be at least 1", ""),
        (
            ["{llama}", "--variant", "lroa"],
            '--variant lroa: `adapter` cannot be the text "lroa"',
            "lora",
        ),
        (["{llama}", "--quantization", "nf5"], "--quantization nf5: ", "nf4"),
        (["{llama}", "--targets", "q_prj"], "--targets q_prj: `q_prj` matches no", "did you mean"),
        (["{llama}", "--targets", "*.q_prj"], "--targets: `*.q_prj` matches no", "the nearest are"),
        (["{llama}", "--targets", "(q"], "--targets: `(q` is not a regular expression", "Python"),
        (["{llama}", "--targets", "experts"], "--targets: `experts` alone", "attention,experts"),
        (
            ["{llama}", "--targets", "attention,experts"],
            "LlamaForCausalLM has no fused experts",
            "ex",
        ),
        (
            ["{llama}", "--variant", "prompt_tuning", "--targets", "q_proj"],
            "unknown key `adapter.target_modules`",
            "",
        ),
        (["{llama}", "--set", "adapter.layers=[7]"], "layer 7 is not there", "layers count from 0"),
        (["{llama}", "--set", "rank"], "--set rank: is not `key=value`", "write --set"),
        (["{no_type}"], "cannot be used: ", "mend its config.json"),
        (["{unknown_type}"], "cannot be used: ", "newer"),
        (["{own_code}"], "the model comes with Python code of its own", "trust_remote_code"),
        (["{broken}"], "cannot be used: ", "mend its config.json"),
        (["{empty}"], "is a folder without config.json", "a model folder has a config.json"),
        (["{text}"], "is a file, but not a .gguf file", "a model is a hub id"),
        (["{bad_gguf}"], "is not a GGUF file", "check the download"),
        (["missing.yaml"], "missing.yaml", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_inputs(
    inspect: Call, llama: Path, tmp_path: Path, arguments: list[str], said: str, advice: str
) -> None:
    own_code = {"model_type": "strange", "auto_map": {"AutoConfig": "configuration.Strange"}}
    (tmp_path / "rows.txt").write_text(ROWS, "utf-8")
    (tmp_path / "bad.gguf").write_bytes(b"GGML")
    (tmp_path / "empty").mkdir()
    places = {
        "folder": tmp_path,
        "empty": tmp_path / "empty",
        "llama": llama,
        "no_type": raw_config(tmp_path / "no_type", {"hidden_size": 8}),
        "unknown_type": raw_config(tmp_path / "unknown", {"model_type": "unheard_of"}),
        "own_code": raw_config(tmp_path / "own_code", own_code),
        "broken": raw_config(tmp_path / "broken", "{"),
        "text": tmp_path / "rows.txt",
        "bad_gguf": tmp_path / "bad.gguf",
    }
    code, output, errors = inspect(*(each.format(**places) for each in arguments))
    assert (code, output) == (2, "")
    assert said in errors
    assert advice in errors
    assert "Traceback" not in errors


def test_a_model_with_nothing_to_adapt_is_shown_all_the_same(inspect: Call, tmp_path: Path) -> None:
    folder = config_folder(tmp_path / "none", "LlamaConfig", **{**TINY, "num_hidden_layers": 0})
    code, output, _ = inspect(folder)
    assert code == 0
    assert "will refuse lora on this choice: LlamaForCausalLM has no linear layer" in output
    assert line_of(output, "embedding ").endswith("8.3k no")
    assert line_of(output, "all-linear  ").endswith(
        "`all-linear` matches no linear layer of LlamaForCausalLM"
    )
    assert "to paste" not in output
    assert inspect(folder, "--targets", "all-linear")[0] == 2
    assert json.loads(inspect(folder, "--json")[1])["adapter"]["trainable_parameters"] == 0
    for variant in ("fourierft", "miss"):
        assert inspect(folder, "--variant", variant)[0] == 0
    assert inspect(folder, "--set", "adapter.target_modules=[q_porj]")[0] == 2
    code, output, _ = inspect(folder, "--set", "adapter.target_modules=[embed_tokens]")
    assert (code, "no linear layer to adapt" in output) == (0, False)


def test_what_the_plan_would_refuse_is_said_beside_yaml_too(inspect: Call, llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    raw_config(llama, config)
    code, output, errors = inspect(llama, "--yaml")
    assert (code, output.splitlines()[1]) == (0, "adapter:")
    assert "the plan will refuse lora" in errors
    assert "gptq has quantized" in " ".join(errors.split())


def test_the_recipe_for_a_mamba_leaves_out_what_peft_refuses(inspect: Call, tmp_path: Path) -> None:
    config_class, values = SMALL_CONFIGS["mamba"]
    folder = config_folder(tmp_path / "mamba", config_class, **values)
    _, output, errors = inspect(folder, "--yaml")
    assert "will refuse" not in errors, "the warnings are about what is printed"
    adapter = yaml.safe_load(output)["adapter"]
    assert adapter["exclude_modules"] == ["out_proj"]
    (tmp_path / "recipe.yaml").write_text(output + "dataset: rows.jsonl\n", "utf-8")
    code, output, _ = inspect(tmp_path / "recipe.yaml")
    assert code == 0
    assert "will refuse" not in output


def test_ends_are_not_counted_as_layers_inside(inspect: Call, llama: Path) -> None:
    _, output, _ = inspect(llama, "--targets", "*")
    assert "linear layers inside the model, with embed_tokens and lm_head" in output


def test_a_rank_over_the_weights_is_said(inspect: Call, llama: Path) -> None:
    code, output, _ = inspect(llama, "--rank", "100000")
    assert code == 0
    assert "warning: rank 100,000 is more than `model.layers.0.self_attn.q_proj`" in output
    assert "is more than" not in inspect(llama, "--rank", "4")[1]


def test_json_or_yaml(inspect: Call, llama: Path) -> None:
    code, _, errors = inspect(llama, "--json", "--yaml")
    assert code == 2
    assert "give --json or --yaml, not both" in errors
