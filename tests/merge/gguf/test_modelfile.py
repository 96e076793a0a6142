"""Ollama's Modelfile: the template writes what the model's own does, stop tokens are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.chat.chat_template import FOLDER, built_in_names
from lora_cli.merge.gguf.chat_layout import ChatLayout, Turns, read_layout, render_chat
from lora_cli.merge.gguf.model import NO_TEMPLATE, export_model
from lora_cli.merge.gguf.modelfile import Modelfile, go_template, stops_of, system_of
from tests.helpers.gguf_models import byte_level_tokenizer, make_gguf_source
from tests.helpers.go_templates import render_go
from tests.helpers.tokenizers import chat_tokenizer

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NUMBERED = (
    "{% for m in messages %}{{ loop.index ~ m['role'] ~ m['content'] }}{% endfor %}"
    "{{ 'assistant' }}"
)
LONG: Turns = [
    ("system", 'Say "yes".\n  Twice.'),
    ("user", "one {{ .Content }}"),
    ("assistant", "two\n\n"),
    ("user", " three"),
    ("assistant", "{% four %}"),
    ("user", "five"),
]


def built_in(name: str) -> Any:
    return chat_tokenizer((FOLDER / f"{name}.jinja").read_text("utf-8"))


def ollama(layout: ChatLayout, turns: Turns) -> str:
    """Return what Ollama writes for turns: all system turns in `.System`, all in `.Messages`."""
    return render_go(
        go_template(layout),
        {
            "System": "\n\n".join(said for role, said in turns if role == "system"),
            "Messages": [{"Role": role, "Content": said} for role, said in turns],
        },
    )


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_template_has_a_layout_that_ollama_renders_alike(
    name: str, begins: bool
) -> None:
    tokenizer = built_in(name)
    layout = read_layout(tokenizer, begins=begins)
    assert layout is not None
    assert layout.system is not None
    trimmed = [(role, said.strip()) for role, said in LONG]
    for turns in (LONG[1:2], trimmed[1:], trimmed):
        text = render_chat(tokenizer, turns)
        assert text is not None
        begun = tokenizer.bos_token if begins and text.startswith(tokenizer.bos_token) else ""
        assert begun + ollama(layout, turns) == text


def test_a_layout_by_hand() -> None:
    assert read_layout(built_in("chatml"), begins=False) == ChatLayout(
        opening="<|im_start|>user\n",
        system=("<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n"),
        answer="<|im_end|>\n<|im_start|>assistant\n",
        question="<|im_end|>\n<|im_start|>user\n",
        prompt="<|im_end|>\n<|im_start|>assistant\n",
    )


def test_a_default_system_turn_is_kept() -> None:
    layout = read_layout(chat_tokenizer(DEFAULT_SYSTEM), begins=False)
    assert layout is not None
    assert ollama(layout, LONG[1:2]).startswith("<|im_start|>system\nBe kind.<|im_end|>\n")
    assert "Be kind" not in ollama(layout, LONG)


@pytest.mark.parametrize(
    "template",
    [
        NUMBERED,
        "{{ raise_exception('no') }}",
        "{{ messages[0]['content'] }}",
        "{{ messages[-1]['content'] * 2 }}",
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
    ],
)
def test_a_template_that_does_more_has_no_layout(template: str) -> None:
    assert read_layout(chat_tokenizer(template), begins=False) is None


def test_a_template_that_takes_no_system_turn() -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}"
        "{% endif %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}{{ '[assistant]' }}"
    )
    layout = read_layout(chat_tokenizer(template), begins=False)
    assert layout == ChatLayout("[user]", None, "[assistant]", "[user]", "[assistant]")
    assert ".System" not in go_template(layout)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*(st.text(max_size=8) for _ in range(6))))
def test_any_text_around_turns_is_written_as_it_is(parts: tuple[str, ...]) -> None:
    opening, before, after, answer, question, prompt = parts
    layout = ChatLayout(opening, (before, after), answer, question, prompt)
    assert ollama(layout, LONG) == layout.render(LONG)
    template = go_template(layout)
    assert template.isprintable()  # Ollama drops what is not
    assert '"""' not in template


def test_the_whole_file() -> None:
    layout = ChatLayout("U:", None, "A:", "U:", "\nA:")
    made = Modelfile("./model.gguf", "./adapter.gguf", layout, ["</s>", 'a "b"'], "Be brief.\nOk.")
    assert made.text() == (
        'FROM "./model.gguf"\n'
        'ADAPTER "./adapter.gguf"\n'
        f'TEMPLATE """{go_template(layout)}"""\n'
        'PARAMETER stop "</s>"\n'
        'PARAMETER stop """a "b""""\n'
        'SYSTEM """Be brief.\nOk."""\n'
    )
    assert Modelfile("m", system='a """ b').text() == 'FROM "m"\n'


def test_stop_tokens_are_the_template_s_the_tokenizer_s_and_the_config_s(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    assert stops_of(tmp_path, tokenizer) == ["<|im_end|>", "<|endoftext|>"]
    ids = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert stops_of(tmp_path, tokenizer) == ["<|im_end|>", "<|endoftext|>", "<|im_start|>"]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [(["Be brief."], "Be brief."), (["A", "B"], ""), (["A", None], ""), ([None], ""), ([], "")],
)
def test_the_system_turn_of_a_run(tmp_path: Path, prompts: list[Any], expected: str) -> None:
    sources = [{"system_prompt": prompt} for prompt in prompts]
    (tmp_path / "plan.json").write_text(json.dumps({"data": {"sources": sources}}))
    assert system_of(tmp_path) == expected


def test_without_a_plan_there_is_none(tmp_path: Path) -> None:
    assert system_of(tmp_path) == ""


def test_a_model_s_modelfile(tmp_path: Path) -> None:
    source = make_gguf_source(tmp_path / "source")
    result = export_model(source, tmp_path / "out", None)
    text = Path(result.modelfile).read_text("utf-8")
    assert text.startswith('FROM "./model.gguf"\nTEMPLATE """{{ if .System }}')
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert result.use[1] == f"ollama create NAME -f {result.modelfile}"


def test_a_template_that_cannot_be_said_is_left_out_and_told(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = NUMBERED
    source = make_gguf_source(tmp_path / "source", tokenizer=tokenizer)
    result = export_model(source, tmp_path / "out", None)
    assert NO_TEMPLATE in result.notes
    assert "TEMPLATE" not in Path(result.modelfile).read_text("utf-8")
