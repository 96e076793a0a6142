"""What is replaced when told so: the work of a command of the same kind, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_cli.merge.adapter_config import CONFIG
from lora_cli.merge.earlier import why_kept
from lora_cli.merge.output import REPORT

MODEL = ["model.safetensors", "config.json", "tokenizer.json", "spiece.model"]


def put(folder: Path, *names: str, **files: Any) -> Path:
    """Make a folder of empty files and of JSON files by the first part of their names."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def put_adapter(folder: Path, *names: str, **origin: Any) -> Path:
    files = (CONFIG, "adapter_model.safetensors", "config.json", "tokenizer_config.json")
    return put(folder, *files, *names, loracli={"base": "owner/base", **origin})


@pytest.mark.parametrize("made", ["exported", "extracted", "combined"])
def test_an_adapter_is_replaced_if_no_training_made_it(tmp_path: Path, made: str) -> None:
    folder = put_adapter(tmp_path / "served", **{made: {}})
    assert why_kept(folder, CONFIG) == ""
    (folder / "README.md").touch()
    assert why_kept(folder, CONFIG) == "holds `README.md`, which was put there since"


def test_a_trained_adapter_stays(tmp_path: Path) -> None:
    kept = "holds an adapter that was not exported, extracted or combined"
    trained = put_adapter(tmp_path / "run" / "adapter", plan_digest="1")
    assert why_kept(trained, CONFIG) == kept
    (trained / "loracli.json").unlink()  # as plain peft saves one
    assert why_kept(trained, CONFIG) == kept


def test_the_adapter_of_a_run_stays_whatever_it_says(tmp_path: Path) -> None:
    trained = put_adapter(tmp_path / "run" / "adapter", exported={})
    beside = put_adapter(tmp_path / "run" / "served", exported={})
    (tmp_path / "run" / "plan.json").touch()
    assert why_kept(trained, CONFIG) == "is the adapter of a run"
    (tmp_path / "link").symlink_to(trained)
    assert why_kept(tmp_path / "link", CONFIG) == "is the adapter of a run"
    assert why_kept(beside, CONFIG) == ""


def test_a_merge_is_replaced_with_the_files_that_it_wrote(tmp_path: Path) -> None:
    names = [*MODEL, "modeling_own.py"]
    folder = put(tmp_path / "merged", *names, merge_report={"files": [*names, REPORT]})
    assert why_kept(folder, REPORT) == ""
    for name in ("README.md", "eval_results.json", "tokenizer_notes.txt", "more.safetensors"):
        (folder / name).touch()
        assert why_kept(folder, REPORT) == f"holds `{name}`, which was put there since"
        (folder / name).unlink()
    (folder / "plots").mkdir()
    assert why_kept(folder, REPORT) == "holds `plots`, which was put there since"


def test_a_merge_that_does_not_tell_its_files_is_known_by_their_names(tmp_path: Path) -> None:
    """As those of earlier versions are."""
    shards = ("model-00001-of-00002.safetensors", "model.safetensors.index.json")
    more = ("generation_config.json", "preprocessor_config.json", "special_tokens_map.json")
    folder = put(tmp_path / "merged", *MODEL, *shards, *more, merge_report={"base": "owner/base"})
    assert why_kept(folder, REPORT) == ""
    for name in ("README.md", "eval_results.json", "notes.txt", "run.py"):
        (folder / name).touch()
        assert why_kept(folder, REPORT) == f"holds `{name}`, which was put there since"
        (folder / name).unlink()


@pytest.mark.parametrize("mark", ["model.gguf", "adapter.gguf"])
def test_a_gguf_file_is_replaced_with_what_was_written_beside_it(tmp_path: Path, mark: str) -> None:
    folder = put(tmp_path / "served", mark)
    assert why_kept(folder, mark) == "has no Modelfile"  # as one that was fetched
    (folder / "Modelfile").touch()
    (folder / "loracli.json").touch()
    assert why_kept(folder, mark) == ""
    (folder / "notes.txt").touch()
    assert why_kept(folder, mark) == "holds `notes.txt`, which was put there since"
