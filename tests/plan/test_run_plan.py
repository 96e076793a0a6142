"""The plan as a value: the same when read back, and refused when it was changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.rslora import RsLora
from lora_cli.adapters.targeted import TargetRegex
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import Decision, RunPlan, SchedulePlan, content_of
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.load import load_recipe

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(1e-12, 1e12)
PLACES = {"name", "kind", "folder", "gguf", "file", "memory_bytes", "run_dir", "recipe_text"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> RunPlan:
    import yaml

    from tests.helpers.tiny_models import sum_rows, write_rows

    folder = tmp_path_factory.mktemp("run_plan")
    write_rows(folder / "rows.jsonl", sum_rows(24))
    write_rows(folder / "apart.jsonl", sum_rows(5))
    sections = {
        "model": {"name": str(tiny_model("llama")), "dtype": "float32"},
        "adapter": {"variant": "lora", "target_modules": {"regex": ".*_proj"}},
        "quantization": "nf4",
        "dataset": "rows.jsonl",
        "evaluation": {"path": "apart.jsonl", "answers": "exact_match"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(sections))
    return make_plan(load_recipe(folder / "recipe.yaml"))


SCHEDULES = st.builds(
    SchedulePlan,
    epochs=NUMBER,
    learning_rate=NUMBER,
    warmup_ratio=NUMBER,
    max_gradient_norm=NUMBER,
    sampling_temperature=st.none() | NUMBER,
)
TARGETS = st.one_of(
    st.sampled_from(["all-linear", "attention", "mlp"]),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple),
    st.builds(TargetRegex, regex=st.text(min_size=1, max_size=5)),
)
SPECS = st.one_of(
    st.builds(
        variant,
        rank=st.integers(1, 999),
        alpha=st.none() | POSITIVE,
        dropout=st.floats(0, 0.99),
        target_modules=TARGETS,
    )
    for variant in (Lora, RsLora)
)
QUANTIZATIONS = st.one_of(
    st.just(Unquantized()), st.builds(FourBit), st.just(EightBit(method="int8"))
)


@given(
    schedule=SCHEDULES,
    spec=SPECS,
    quantization=QUANTIZATIONS,
    decisions=st.lists(st.builds(Decision, field=TEXT, value=TEXT, reason=TEXT)).map(tuple),
    texts=st.lists(TEXT, min_size=2).map(tuple),
)
def test_a_plan_is_read_back_as_it_was(
    plan: RunPlan, schedule: Any, spec: Any, quantization: Any, decisions: Any, texts: Any
) -> None:
    adapter = plan.adapter.model_copy(update={"spec": spec, "modules": texts})
    changed = plan.model_copy(
        update={
            "schedule": schedule,
            "adapter": adapter,
            "quantization": quantization,
            "decisions": decisions,
            "warnings": texts,
            "recipe_text": texts[0],
        }
    )
    again = RunPlan.from_json(changed.to_json())
    assert again == changed
    assert again.digest == changed.digest


def test_the_file_begins_with_the_digest(plan: RunPlan) -> None:
    text = plan.to_json()
    assert text.startswith(f'{{\n  "digest": "{plan.digest}",')
    assert text.endswith("}\n")
    assert len(plan.digest) == 64


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list) and inner:
            yield from leaves_of(inner, (*path, key))
        else:
            yield (*path, key)


def tampered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def changed_at(plan: RunPlan, path: tuple[Any, ...]) -> str:
    fields = json.loads(plan.to_json())
    node = fields
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = tampered(node[path[-1]])
    return json.dumps(fields)


def is_place(path: tuple[Any, ...]) -> bool:
    return path[0] in ("decisions", "warnings") or (
        path[-1] in PLACES and path[0] in ("model", "data", "evaluation", "device", *PLACES)
    )


def test_a_changed_plan_is_refused_whatever_was_changed(plan: RunPlan) -> None:
    leaves = list(leaves_of(json.loads(plan.to_json())))
    content = [path for path in leaves if not is_place(path)]
    assert len(content) > 80
    for path in content:
        with pytest.raises(ValueError, match=r"the plan was changed|validation error"):
            RunPlan.from_json(changed_at(plan, path))


def test_a_moved_plan_is_the_same_run(plan: RunPlan) -> None:
    moved = [
        ("run_dir",),
        ("data", "sources", 0, "files", 0, "file"),
        ("model", "folder"),
        ("device", "name"),
    ]
    for path in moved:
        assert RunPlan.from_json(changed_at(plan, path)).digest == plan.digest


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"digest": "x"}', "[" * 100_000, '{"version": 2}']
)
def test_a_text_that_is_no_plan(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RunPlan.from_json(text)


def test_a_plan_of_another_version_is_refused(plan: RunPlan) -> None:
    fields = json.loads(plan.to_json()) | {"version": 2}
    with pytest.raises(ValidationError, match="version"):
        RunPlan.from_json(json.dumps(fields))


def test_a_plan_never_changes(plan: RunPlan) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        plan.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        plan.schedule.steps = 1  # type: ignore[misc]


def test_content_holds_no_place(plan: RunPlan) -> None:
    text = json.dumps(content_of(plan))
    (file,) = plan.data.sources[0].files
    for place in (plan.run_dir, plan.model.folder, file.file, plan.device.name):
        assert place in plan.to_json()
        assert place not in text


def test_nothing_is_left_to_be_decided(plan: RunPlan) -> None:
    assert "auto" not in json.dumps(content_of(plan)).replace("AutoModel", "")
    assert plan.adapter.spec.alpha == 32
    assert plan.quantization.model_dump()["compute_dtype"] == "float32"
