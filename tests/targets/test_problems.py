"""Every name that means nothing is told at its place, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.targeted import TargetRegex
from lora_cli.errors import Where
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.source import Source
from lora_cli.targets.problems import find_problems

BaseOf = Callable[[str], BaseModelFacts]
FIELDS = (
    "target_modules",
    "exclude_modules",
    "layers",
    "modules_to_save",
    "target_parameters",
)
SOURCE = Source(
    "r.yaml",
    values={
        ("adapter", field, *item): Where("r.yaml", 10 * number + sum(item), 5)
        for number, field in enumerate(FIELDS, 1)
        for item in ((), (0,), (1,), (2,))
    },
)
LEAVES = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
LEFT_OUT = "`exclude_modules`, `layers` or `modules_to_save` leaves out all that it means"


def told(base: BaseModelFacts, **fields: Any) -> list[str]:
    return [str(problem) for problem in find_problems(Lora(**fields), base, SOURCE)]


def test_nothing_is_wrong(base_of: BaseOf) -> None:
    assert (
        told(
            base_of("mixtral"),
            target_modules=["q_proj"],
            exclude_modules=["layers.0.self_attn.q_proj"],
            layers=["0-1"],
            modules_to_save=["norm"],
            target_parameters=["gate.weight"],
        )
        == []
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"exclude_modules": ["q_proj", "lm_head"]},
            (
                "r.yaml:21:5 adapter.exclude_modules[1]: `lm_head` excludes nothing (what is "
                f"adapted without it: {LEAVES})"
            ),
        ),
        (
            {"exclude_modules": ["q_prj"]},
            (
                "r.yaml:20:5 adapter.exclude_modules[0]: `q_prj` excludes nothing (did you mean "
                f"`q_proj`? what is adapted without it: {LEAVES})"
            ),
        ),
        (
            {"target_modules": "mlp", "exclude_modules": TargetRegex(regex="q_proj")},
            (
                "r.yaml:20:5 adapter.exclude_modules.regex: the expression excludes nothing: it "
                "must match a whole name (what is adapted without it: gate_proj, up_proj, "
                "down_proj)"
            ),
        ),
        (
            {"layers": [0, 2]},
            (
                "r.yaml:31:5 adapter.layers[1]: layer 2 is not there: LlamaForCausalLM has 2 "
                "(layers count from 0: the last is 1)"
            ),
        ),
        (
            {"layers": ["0-1", "1-7"]},
            (
                "r.yaml:31:5 adapter.layers[1]: layer 7 is not there: LlamaForCausalLM has 2 "
                "(layers count from 0: the last is 1)"
            ),
        ),
        (
            {"layers": [2]},
            (
                "r.yaml:30:5 adapter.layers[0]: layer 2 is not there: LlamaForCausalLM has 2 "
                "(layers count from 0: the last is 1)"
            ),
        ),
        (
            {"target_modules": ["q_proj", "lm_head"], "layers": [0]},
            f"r.yaml:11:5 adapter.target_modules[1]: `lm_head` adapts nothing ({LEFT_OUT})",
        ),
        (
            {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["mlp"]},
            f"r.yaml:11:5 adapter.target_modules[1]: `up_proj` adapts nothing ({LEFT_OUT})",
        ),
        (
            {"target_modules": "mlp", "exclude_modules": TargetRegex(regex=".*")},
            f"r.yaml:10:5 adapter.target_modules: no module is left to adapt ({LEFT_OUT})",
        ),
        (
            {"modules_to_save": ["norm", "nrm"]},
            (
                "r.yaml:41:5 adapter.modules_to_save[1]: `nrm` matches no module of "
                "LlamaForCausalLM (did you mean `norm`? outside its layers it has model, "
                "embed_tokens, norm, lm_head)"
            ),
        ),
        (
            {"modules_to_save": ["act_fn"]},
            (
                "r.yaml:40:5 adapter.modules_to_save[0]: `act_fn` cannot be trained as a whole: "
                "it has no weights, or is a mere list (name a module with weights, such as "
                "`lm_head`)"
            ),
        ),
        (
            {"modules_to_save": ["layers"]},
            (
                "r.yaml:40:5 adapter.modules_to_save[0]: `layers` cannot be trained as a whole: "
                "it has no weights, or is a mere list (name a module with weights, such as "
                "`lm_head`)"
            ),
        ),
        (
            {"modules_to_save": ["mlp", "down_proj"]},
            (
                "r.yaml:40:5 adapter.modules_to_save: `model.layers.0.mlp.down_proj` lies in "
                "`model.layers.0.mlp`, which is trained as a whole anyway (name one of the two)"
            ),
        ),
        (
            {"target_parameters": "experts"},
            (
                "r.yaml:50:5 adapter.target_parameters: LlamaForCausalLM has no fused experts "
                "(experts that are linear layers are named in `target_modules`)"
            ),
        ),
    ],
)
def test_a_problem_and_its_words(base_of: BaseOf, fields: dict[str, Any], problem: str) -> None:
    assert told(base_of("llama"), **fields) == [problem]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"target_modules": ["q_proj", "gate"]},
            (
                "r.yaml:11:5 adapter.target_modules[1]: `gate` is no linear layer, but holds a "
                "matrix (write `target_parameters: [gate.weight]`)"
            ),
        ),
        (
            {"target_parameters": ["gate.weight", "gate_proj"]},
            (
                "r.yaml:51:5 adapter.target_parameters[1]: `gate_proj` is no matrix of "
                "MixtralForCausalLM outside its linear layers (did you mean `gate_up_proj`? "
                "those are: gate.weight, experts.gate_up_proj, experts.down_proj)"
            ),
        ),
        (
            {"target_parameters": ["down_proj"], "exclude_modules": ["experts.down_proj"]},
            f"r.yaml:50:5 adapter.target_parameters[0]: `down_proj` adapts nothing ({LEFT_OUT})",
        ),
        (
            {"target_parameters": "experts", "modules_to_save": ["mlp"]},
            f"r.yaml:50:5 adapter.target_parameters: no experts are left to adapt ({LEFT_OUT})",
        ),
        (
            {"target_parameters": "experts", "exclude_modules": ["gate_up_proj", "down_proj"]},
            f"r.yaml:50:5 adapter.target_parameters: no experts are left to adapt ({LEFT_OUT})",
        ),
    ],
)
def test_a_problem_with_experts(base_of: BaseOf, fields: dict[str, Any], problem: str) -> None:
    assert told(base_of("mixtral"), **fields) == [problem]


def test_all_problems_are_told_at_once(base_of: BaseOf) -> None:
    told_of = told(
        base_of("llama"),
        target_modules=["q_prj"],
        exclude_modules=["v_proj"],
        layers=[9],
        modules_to_save=["hed"],
        target_parameters=["gate"],
    )
    assert [line.split()[1].rstrip(":") for line in told_of] == [
        "adapter.target_modules[0]",
        "adapter.exclude_modules[0]",
        "adapter.layers[0]",
        "adapter.modules_to_save[0]",
        "adapter.target_parameters[0]",
    ]


def test_a_range_may_be_as_long_as_it_likes(base_of: BaseOf) -> None:
    """It is not written out: there is a first and a last layer, and nothing between them."""
    (problem,) = told(base_of("llama"), layers=["0-999999"])
    assert "layer 999999 is not there" in problem
