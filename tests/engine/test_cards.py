"""What people read of a run: true figures, and no text that breaks out of its place."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lora_cli.engine.cards import model_card, write_report
from lora_cli.merge.model_card import card_for
from tests.engine.conftest import Finished
from tests.helpers.runs import PLAIN_PEFT, plan_of, train, write_recipe

HOSTILE = "<script>alert('x')</script> & | \"quoted\" # colon: \\ end"


class Cells(HTMLParser):
    """Collects the text of table cells, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.pictures: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._open = tag == "td"
        if tag == "td":
            self.cells.append("")
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data


@pytest.fixture
def card(finished: Finished) -> str:
    return (finished.folder / "README.md").read_text("utf-8")


@pytest.fixture
def report(finished: Finished) -> Cells:
    return Cells((finished.folder / "report.html").read_text("utf-8"))


def test_the_card_begins_with_what_hubs_read(finished: Finished, card: str) -> None:
    front = yaml.safe_load(card.split("---")[1])
    assert front == {
        "library_name": "peft",
        "base_model": finished.plan.model.name,
        "tags": ["lora", "loracli"],
    }


def test_the_card_says_base_data_plan_and_figures(finished: Finished, card: str) -> None:
    plan, result = finished.plan, finished.result
    for fact in (
        plan.model.architecture,
        f"{plan.model.parameters:,} parameters",
        plan.model.fingerprint,
        "rank 4, alpha 8, scaling 2, dropout 0.1",
        f"{plan.adapter.trainable_parameters:,}",
        f"rows.jsonl {plan.data.sources[0].files[0].sha256} (24 of 24 rows)",
        "6 steps of 4 rows (4 × 1), adamw, learning rate 0.02, cosine",
        "1 warm-up step (3.0%), seed 0",
        f"{result.final_loss:.4f}",
        f"{result.best_evaluation_loss:.4f} at step {result.best_step} (this adapter)",
        plan.digest,
        "| exact_match | 0.0% | 0.0% |",
        "peft 0.",
    ):
        assert fact in card, fact


@PLAIN_PEFT
def test_the_cards_code_loads_the_adapter_from_the_runs_folder(
    finished: Finished, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert str(finished.folder) not in code[1], "a card is published: no paths of this machine"
    monkeypatch.chdir(finished.folder)
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert names["model"].peft_config["default"].r == 4
    assert names["tokenizer"].eos_token == "<|im_end|>"


@PLAIN_PEFT
@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_cards_code_keeps_what_the_recipe_keeps_in_full_precision(
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    quantization = {"method": method, "full_precision_modules": ["o_proj"]}
    base = tiny_model("llama")
    train(plan_of(write_recipe(tmp_path, base, adapter="lora", quantization=quantization)))
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert ("module.support_avx512bf16_for_cpu = False" in card) == (method == "nf4")
    pushed = card_for(tmp_path / "run" / "adapter", "me/tuned").text
    pushed = pushed.replace("me/tuned", "adapter").replace("folder/of/the/base", str(base))
    monkeypatch.chdir(tmp_path / "run")
    for text in (card, pushed):
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        assert code is not None
        names: dict[str, Any] = {}
        exec(code[1], names)
        model = names["model"].get_base_model()
        layer = model.model.layers[1]
        assert type(layer.self_attn.o_proj.base_layer) is torch.nn.Linear
        assert type(layer.self_attn.q_proj.base_layer) is not torch.nn.Linear
        assert type(model.lm_head) is torch.nn.Linear


@PLAIN_PEFT
def test_the_card_says_what_peft_cannot_do_and_it_still_cannot(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_model("llama")
    train(plan_of(write_recipe(tmp_path, base, adapter="dora", quantization="int8")))
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "`loracli export` makes a plain LoRA of this adapter" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path / "run")
    names: dict[str, Any] = {}
    exec(code[1], names)
    ids = torch.arange(2, 10)[None]
    with torch.no_grad():
        names["model"](input_ids=ids)
        with pytest.raises((AttributeError, TypeError), match="NoneType"):
            names["model"](input_ids=ids)


def test_the_report_holds_facts_decisions_warnings_and_the_curve(
    finished: Finished, report: Cells
) -> None:
    text = (finished.folder / "report.html").read_text("utf-8")
    for decision in finished.plan.decisions:
        place = report.cells.index(decision.field)
        assert report.cells[place : place + 3] == [decision.field, decision.value, decision.reason]
    assert "exact_match" in report.cells
    assert finished.plan.digest in report.cells
    assert finished.plan.warnings
    assert report.tags.count("li") == len(finished.plan.warnings)
    (source,) = report.pictures
    picture = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    assert picture == (finished.folder / "loss.png").read_bytes()
    assert "http" not in text, "one file, nothing fetched"


def test_hostile_names_stay_text(finished: Finished, tmp_path: Path) -> None:
    model = finished.plan.model.model_copy(update={"name": HOSTILE})
    decision = finished.plan.decisions[0].model_copy(update={"value": HOSTILE})
    changed = {
        "model": model,
        "run_dir": f"/runs/{HOSTILE.replace('/', '')}",
        "decisions": (decision,),
        "warnings": (HOSTILE,),
    }
    plan = finished.plan.model_copy(update=changed)
    curve = finished.folder / "loss.png"
    write_report(tmp_path / "report.html", plan, finished.result, curve=curve)
    report = Cells((tmp_path / "report.html").read_text("utf-8"))
    assert "script" not in report.tags
    assert HOSTILE in report.cells
    card = model_card(plan, finished.result)
    assert yaml.safe_load(card.split("\n---\n")[0])["base_model"] == HOSTILE
    row = next(line for line in card.splitlines() if line.startswith("| base model"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3, "three borders, two cells"


def test_a_run_without_evaluation_has_no_empty_sections(finished: Finished, tmp_path: Path) -> None:
    bare = {"scores": {}, "best_step": None, "best_evaluation_loss": None}
    result = type(finished.result)(**{**vars(finished.result), **bare})
    card = model_card(finished.plan, result)
    assert "Answers" not in card
    assert "best evaluation loss" not in card
    plan = finished.plan.model_copy(update={"warnings": ()})
    curve = finished.folder / "loss.png"
    write_report(tmp_path / "report.html", plan, result, curve=curve)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Answers" not in text
    assert "Warnings" not in text
