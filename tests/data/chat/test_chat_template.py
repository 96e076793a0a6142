"""Built-in chat templates, templates from files, and what a template tells of its tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lora_cli.data.chat.chat_template import (
    FOLDER,
    Ending,
    built_in_names,
    find_chat_template,
    read_template,
    stop_tokens,
)
from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.errors import PlanError, Where
from lora_cli.formats import Conversation, Message
from lora_cli.recipe import schema
from tests.data import templates
from tests.data.chat.test_chat_templates import CALLING, EXPECTED, ONE, SYSTEM, TOOLS, TWO, shown
from tests.data.templates import Template

MARK = re.compile(r"\{%-? (end)?generation -?%\}")
VICUNA = (
    "<s>A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions. "
)
ALPACA = (
    "<s>Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n"
)
PLACE = Where("recipe.yaml", 3)

BUILT_IN = {
    # name: (special tokens from here, one question, two questions after a system turn)
    "chatml": (templates.CHATML, EXPECTED["chatml"][1], EXPECTED["chatml"][2]),
    "llama2": (templates.LLAMA_2, EXPECTED["llama-2"][1], EXPECTED["llama-2"][2]),
    "llama3": (templates.LLAMA_3, EXPECTED["llama-3"][1], EXPECTED["llama-3"][2]),
    "mistral": (
        templates.MISTRAL,
        EXPECTED["mistral"][1],
        ("<s>[INST] Be brief.\n\nHi [/INST]⟦ Yo</s>⟧[INST] More? [/INST]⟦ No. \n\nBye</s>⟧"),
    ),
    "gemma": (
        templates.GEMMA,
        EXPECTED["gemma"][1],
        (
            "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
            "<start_of_turn>model\n⟦Yo<end_of_turn>⟧\n"
            "<start_of_turn>user\nMore?<end_of_turn>\n"
            "<start_of_turn>model\n⟦No. \n\nBye<end_of_turn>⟧\n"
        ),
    ),
    "qwen": (templates.QWEN, EXPECTED["chatml"][1], EXPECTED["chatml"][2]),
    "phi": (
        templates.PHI,
        EXPECTED["phi"][1].removesuffix("<|endoftext|>"),
        EXPECTED["phi"][2].removesuffix("<|endoftext|>"),
    ),
    "zephyr": (templates.ZEPHYR, EXPECTED["zephyr"][1], EXPECTED["zephyr"][2]),
    "alpaca": (
        templates.VICUNA,
        f"{ALPACA}### Instruction:\nHi\n\n### Response:\n⟦Yo</s>⟧\n\n",
        (
            "<s>Be brief.\n\n### Instruction:\nHi\n\n### Response:\n⟦Yo</s>⟧\n\n"
            "### Instruction:\nMore?\n\n### Response:\n⟦No. \n\nBye</s>⟧\n\n"
        ),
    ),
    "vicuna": (
        templates.VICUNA,
        f"{VICUNA}USER: Hi ASSISTANT:⟦ Yo</s>⟧",
        "<s>Be brief. USER: Hi ASSISTANT:⟦ Yo</s>⟧USER: More? ASSISTANT:⟦ No. \n\nBye</s>⟧",
    ),
}


def built_in(name: str, like: Template) -> Any:
    tokenizer = like.tokenizer()
    tokenizer.chat_template = find_chat_template(name, Path("nowhere"), PLACE)
    return tokenizer


def rows_of(tokenizer: Any, *turns: Message, tools: Any = ()) -> list[str]:
    encoder = Tokenizer(tokenizer, max_length=4000)
    return [shown(row, tokenizer) for row in encoder.encode_all(Conversation(turns, tools))]


def test_every_built_in_template_is_tested_here() -> None:
    assert built_in_names() == sorted(BUILT_IN)
    help_text = Path(schema.__file__).read_text("utf-8")
    listed = re.search(r"a built-in one \(([\w\s,]+)\)", help_text)
    assert listed
    assert sorted(re.split(r",\s+", listed.group(1))) == built_in_names()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_template_learns_answers_and_their_ends(name: str) -> None:
    like, one, two = BUILT_IN[name]
    tokenizer = built_in(name, like)
    assert rows_of(tokenizer, *ONE) == [one]
    assert rows_of(tokenizer, SYSTEM, *TWO) == [two]


@pytest.mark.parametrize("name", BUILT_IN)
def test_marks_and_prefixes_agree(name: str) -> None:
    like, _, two = BUILT_IN[name]
    tokenizer = built_in(name, like)
    unmarked = MARK.sub("", tokenizer.chat_template)
    assert unmarked != tokenizer.chat_template
    tokenizer.chat_template = unmarked
    assert rows_of(tokenizer, SYSTEM, *TWO) == [two]


def test_the_built_in_qwen_has_tools_and_thoughts() -> None:
    (row,) = rows_of(built_in("qwen", templates.QWEN), SYSTEM, *CALLING, tools=TOOLS)
    start, _, turns = row.partition("<|im_end|>\n")
    assert start.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n\n")
    definition = '{"type": "function", "function": {"name": "add", "parameters": {}}}'
    assert f"<tools>\n{definition}\n</tools>" in start
    assert turns == (
        "<|im_start|>user\n1+2?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\na tool\n</think>\n\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call><|im_end|>⟧\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nso 3\n</think>\n\nIt is 3.<|im_end|>⟧\n"
    )


def test_the_built_in_qwen_drops_earlier_thoughts() -> None:
    thinking = (
        ONE[0],
        Message("assistant", "Yo", reasoning="greet"),
        TWO[2],
        Message("assistant", "No", reasoning="refuse"),
    )
    first, last = rows_of(built_in("qwen", templates.QWEN), *thinking)
    assert first == (
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\ngreet\n</think>\n\nYo<|im_end|>⟧\n"
    )
    assert last == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
        "<|im_start|>user\nMore?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nrefuse\n</think>\n\nNo<|im_end|>⟧\n"
    )


def test_results_of_several_calls_stand_in_one_turn() -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    turns = (
        Message("user", "Add"),
        Message("assistant", "Both:", tool_calls=(call, call)),
        Message("tool", "one"),
        Message("tool", "two"),
        Message("assistant", "Done"),
    )
    (row,) = rows_of(built_in("qwen", templates.QWEN), *turns, tools=TOOLS)
    made = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert f"⟦Both:\n{made}\n{made}<|im_end|>⟧" in row
    results = "\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"
    assert f"<|im_start|>user{results}<|im_end|>\n<|im_start|>assistant\n⟦Done" in row


def test_a_template_from_a_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages }}é", "utf-8")
    assert find_chat_template("own.jinja", tmp_path, PLACE) == "{{ messages }}é"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("lama3", "there is no built-in chat template `lama3`", "did you mean `llama3`?"),
        (
            "xyz",
            "there is no built-in chat template `xyz`",
            "a file beside the recipe",
        ),
        ("none.jinja", "`none.jinja` cannot be read: No such file", "a file beside the recipe, or"),
        (
            "bytes.jinja",
            "`bytes.jinja` cannot be read: it is not UTF-8",
            "a file beside the recipe",
        ),
    ],
)
def test_a_template_that_is_not_there(tmp_path: Path, name: str, message: str, hint: str) -> None:
    (tmp_path / "bytes.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError) as caught:
        find_chat_template(name, tmp_path, PLACE)
    (problem,) = caught.value.problems
    assert problem.where == PLACE
    assert problem.message.startswith(message)
    assert problem.hint.startswith(hint)


def test_a_file_that_is_no_jinja(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}\n{{ m. }}\n{% endfor %}")
    with pytest.raises(PlanError) as caught:
        find_chat_template("own.jinja", tmp_path, PLACE)
    (problem,) = caught.value.problems
    assert problem.where == Where(str(file), 2)
    assert problem.message.startswith("the chat template is not valid Jinja: ")


def test_what_ends_an_answer() -> None:
    phi = templates.PHI.tokenizer()
    reading = read_template(phi)
    end, eos = phi.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert reading.ending == Ending(end, "<|end|>", "\n<|endoftext|>")
    assert (reading.split_ending, reading.split_tokens) == ("", ())
    assert stop_tokens(phi, reading) == {"<|end|>": end, "<|endoftext|>": eos}
    llama = templates.LLAMA_2.tokenizer()
    assert stop_tokens(llama, read_template(llama)) == {"</s>": llama.eos_token_id}


def test_tokens_that_the_tokenizer_does_not_have() -> None:
    base = templates.LLAMA_2.tokenizer()
    base.chat_template = templates.CHATML.text
    reading = read_template(base)
    assert reading.ending is None
    assert reading.split_ending == "<|im_end|>"
    assert reading.split_tokens == ("<|im_start|>", "<|im_end|>")
    assert stop_tokens(base, reading) == {"</s>": base.eos_token_id}
    zephyr = built_in("zephyr", templates.ZEPHYR)
    assert read_template(zephyr).split_tokens == ("<|user|>", "<|assistant|>")
    assert read_template(zephyr, plain_headings=True).split_tokens == ()


@pytest.mark.parametrize("template", [None, "{{ 1 / 0 }}", "{% for %}", "{{ messages }}"])
def test_a_template_that_tells_nothing(template: str | None) -> None:
    tokenizer = templates.CHATML.tokenizer()
    tokenizer.chat_template = template
    assert read_template(tokenizer).ending is None


def test_the_templates_are_part_of_the_package() -> None:
    assert FOLDER.parent.name == "chat"
    assert all((FOLDER / f"{name}.jinja").is_file() for name in BUILT_IN)
