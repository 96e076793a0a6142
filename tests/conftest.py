"""Fixtures that all tests share: no network, a cache of their own, tiny models made once."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# threads that wait must not spin: on a busy machine two-layer models would take minutes
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# a shell starts what runs in the background with SIGINT ignored, and children would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples every time: who sees a failure can see it again; `make fuzz` draws others
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", derandomize=False, max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests cache out of the user's own cache.

    Only what is read from a GGUF is kept between sessions: it takes half a minute.
    """
    from lora_cli.facts.cache import cache_folder

    cache = tmp_path_factory.mktemp("cache")
    (cache / "gguf").symlink_to(cache_folder("gguf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORACLI_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Give every test the same random numbers, whatever ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model by architecture, made at its first use."""
    from tests.helpers.tiny_models import make_tiny_model

    made: dict[str, Path] = {}

    def get(architecture: str = "llama") -> Path:
        if architecture not in made:
            made[architecture] = make_tiny_model(
                tmp_path_factory.mktemp("models") / architecture, architecture
            )
        return made[architecture]

    return get


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Path]:
    """Return a function that writes a recipe on a tiny model and 24 rows beside it."""
    import yaml

    from tests.helpers.tiny_models import sum_rows, write_rows

    def write(architecture: str = "llama", **sections: object) -> Path:
        write_rows(tmp_path / "rows.jsonl", sum_rows(24))
        recipe: dict[str, object] = {
            "model": {"name": str(tiny_model(architecture)), "dtype": "float32"},
            "adapter": {"variant": "lora", "rank": 4},
            "dataset": "rows.jsonl",
            "training": {"batch_size": 4, "steps": 4, "learning_rate": 0.01},
            "output": {"dir": str(tmp_path / "run")},
        }
        recipe.update(sections)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        return path

    return write


@pytest.fixture
def loracli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line and gives (exit code, output, errors)."""
    from lora_cli import cli

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loracli", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture(scope="module")
def bases_loaded_once() -> Iterator[None]:
    """Give every model that is built a copy of its base, which is loaded from its files once."""
    from lora_cli.model import build
    from lora_cli.model.base import LoadedBase, load_base

    loaded: dict[tuple[Path, str, str], LoadedBase] = {}

    def load(folder: Path, quantization: Any, how: Any, *, changed: Any = None) -> LoadedBase:
        if changed is not None:
            return load_base(folder, quantization, how, changed=changed)
        key = (folder, quantization.method, repr(how))
        if key not in loaded:
            loaded[key] = load_base(folder, quantization, how)
        return copy.deepcopy(loaded[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "load_base", load)
        yield
