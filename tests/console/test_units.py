from __future__ import annotations

import pytest

from lora_cli.console.units import duration, gigabytes, parameters


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (4096, "4.1k"), (134_515_008, "134.5M"), (8_030_261_248, "8.0B")]
)
def test_parameters(count: int, text: str) -> None:
    assert parameters(count) == text


@pytest.mark.parametrize(("count", "text"), [(523_000_000, "523 MB"), (25_300_000_000, "25.3 GB")])
def test_gigabytes(count: int, text: str) -> None:
    assert gigabytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3700, "1:01:40")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
