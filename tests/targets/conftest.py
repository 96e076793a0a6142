"""Facts of tiny models of several architectures, from their configs alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from lora_cli.facts.base_model import BaseModelFacts, probe_base_model
from lora_cli.facts.model_source import ModelSource
from tests.helpers.model_folders import CONFIGS, config_folder


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BaseModelFacts]:
    """Return the facts of a two-layer model by architecture."""

    @cache
    def get(name: str) -> BaseModelFacts:
        config_class, values = CONFIGS[name]
        folder = config_folder(tmp_path_factory.mktemp(name), config_class, **values)
        source = ModelSource("folder", folder, "", "safetensors")
        return probe_base_model(source, trust_remote_code=False)

    return get
