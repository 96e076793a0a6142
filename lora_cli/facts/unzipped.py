"""A zip archive → a folder in the cache with the files of rows that it holds."""

from __future__ import annotations

import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from lora_cli.errors import PlanError
from lora_cli.facts.cache import cache_folder, cached_sha256
from lora_cli.files import new_folder, sha256_of_text
from lora_cli.words import reason_of

SUFFIX = ".zip"
_TORN = (zlib.error, lzma.LZMAError)


def unzipped(archive: Path, is_wanted: Callable[[str], bool], kept: Collection[str]) -> Path:
    """Return the folder of an archive's files whose names are wanted, unpacked once.

    Of an archive that is one folder it is that folder, unless its name is one of `kept`, and says
    what is in it.

    Raises:
        PlanError: the archive cannot be unpacked, or holds no such file.
    """
    key = sha256_of_text(f"{archive.name}\n{cached_sha256(archive)}")[:32]
    folder = cache_folder("unzipped") / key / archive.name  # whose name stands in errors
    if not folder.is_dir():
        with new_folder(folder) as new:
            _unpack(archive, new, is_wanted)
    inside = list(folder.iterdir())
    while len(inside) == 1 and inside[0].is_dir() and inside[0].name not in kept:
        folder, inside = inside[0], list(inside[0].iterdir())
    return folder


def _unpack(archive: Path, folder: Path, is_wanted: Callable[[str], bool]) -> None:
    try:
        with ZipFile(archive) as opened:
            for each in opened.infolist():  # as they are unpacked; old Windows writes backslashes
                name = each.filename.replace("\\", "/").lstrip("/")
                each.filename = f"{PurePosixPath(name)}{'/' * each.is_dir()}"
            members = [each for each in opened.infolist() if is_wanted(each.filename)]
            _check(archive, members)
            for member in members:
                opened.extract(member, folder)
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, *_TORN) as error:
        hint = "copy or download it again, or unpack it yourself and name the files"
        raise PlanError(f"cannot be unpacked: {reason_of(error)}", str(archive), hint) from error


def _check(archive: Path, members: list[ZipInfo]) -> None:
    names = Counter(member.filename for member in members)
    if not names:
        raise PlanError("holds no file of rows", str(archive))
    if twice := [name for name, count in names.items() if count > 1]:
        raise PlanError(f"holds two files called `{twice[0]}`", str(archive), "rename one of them")
