"""The table of devices, names of devices, and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.errors import EstimateError
from lora_cli.memory import devices
from lora_cli.memory.devices import (
    card_of,
    find_device,
    known_devices,
    read_devices,
    read_size,
)

GB = 10**9
LINE = "- {name: A 1GB, memory_gib: 1, bfloat16: true, trains_on: cuda}\n"


@pytest.mark.parametrize(
    "part",
    ["RTX 4090", "RTX 3060", "A100 40GB", "A100 80GB", "H100", "H200", "B200", "MI300X", "L4 ",
     "T4 ", "M-series"],
)  # fmt: skip
def test_the_table_holds_what_people_have(part: str) -> None:
    assert [each for each in known_devices() if part in f"{each.name} "]


def test_no_device_has_more_than_its_name_says() -> None:
    for each in known_devices():
        named = int(each.name.rpartition(" ")[2].removesuffix("GB"))
        assert 0.9 * named <= each.memory_gib <= named


def test_the_wheel_takes_the_table_along_to_where_it_is_looked_for(repository: Path) -> None:
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    (source, target), *rest = included.items()
    assert (repository / source).is_file()
    assert repository / target == devices.PACKAGED
    assert not rest


def test_an_installed_loracli_reads_its_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "devices.yaml"
    packaged.write_text(LINE, "utf-8")
    monkeypatch.setattr(devices, "PACKAGED", packaged)
    monkeypatch.setattr(devices, "IN_REPOSITORY", tmp_path / "not there")
    found = known_devices.__wrapped__()
    assert [each.name for each in found] == ["A 1GB"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RTX 4090 24GB", "RTX 4090 24GB"),
        ("rtx4090", "RTX 4090 24GB"),
        ("4090", "RTX 4090 24GB"),
        ("L4", "L4 24GB"),
        ("a100-40gb", "A100 40GB"),
        ("t4", "T4 16GB"),
    ],
)
def test_a_device_is_found_by_as_much_of_its_name_as_is_needed(text: str, name: str) -> None:
    assert find_device(text).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RTX 9090", "no device `RTX 9090` is known"),
        ("RTX 4900", "did you mean `RTX 4090 24GB`"),
        ("A100", "name one: `A100 40GB` or `A100 80GB`"),
        ("", "no device `` is known"),
        ("!", "known: RTX 3060"),
    ],
)
def test_a_device_that_is_not_known_or_not_one_is_refused(text: str, message: str) -> None:
    with pytest.raises(EstimateError) as error:
        find_device(text)
    assert message in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * GB),
        ("24 gb", 24 * GB),
        ("23.6GiB", round(23.6 * 2**30)),
        ("500 MB", 500 * 10**6),
        ("1TiB", 2**40),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert read_size(text, "--fit") == size


@pytest.mark.parametrize(
    "text", ["3 bananas", "24", "GB", "-3GB", "0GB", "24 Gb/s", "", "1e3GB", "٣GB", "24KB "]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(EstimateError, match=r"is no size.*24GB, 23\.6GiB"):
        read_size(text, "--fit")


def test_a_card_of_a_size_has_bfloat16() -> None:
    machine = card_of(24 * GB)
    assert (machine.device, machine.memory_bytes, machine.fast_bfloat16) == ("cuda", 24 * GB, True)
    assert machine.name == "a GPU of 24 GB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {name: A, memory_gib: 1, bfloat16: true}", "0.trains_on"),
        (LINE.replace("cuda", "tpu"), "0.trains_on"),
        (LINE.replace("memory_gib: 1", "memory_gib: 0"), "0.memory_gib"),
        (LINE.replace("memory_gib", "memory"), "0.memory"),
        (LINE.replace("true", "maybe"), "0.bfloat16"),
        (LINE + LINE, "`A 1GB` stands there twice"),
        ("- {", "is no table of devices"),
        ("name: A", ""),
    ],
)
def test_a_table_with_a_mistake_says_where(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "devices.yaml"
    table.write_text(text, "utf-8")
    with pytest.raises(EstimateError) as error:
        read_devices(table)
    assert str(table) in str(error.value)
    assert message in str(error.value)
