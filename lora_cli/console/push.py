"""`loracli push` on the terminal: what would be sent, or what was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.quiet import quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.push import Upload, plan_upload, send
from lora_cli.words import counted

CARD_LINES = 16
WHOSE = {
    "folder": "the folder's own",
    "run": "the run's own",
    "made": "made now: the folder has none of its own",
}


def push(  # one for each option
    folder: Path, repository: str, *, private: bool, revision: str, yes: bool, as_json: bool
) -> None:
    """Show an upload, and carry it out if the user said yes."""
    quiet_libraries()
    upload = plan_upload(folder, repository, private=private, revision=revision)
    if yes and not as_json:
        with Console(stderr=True).status(f"sending to {repository}"):
            url = send(upload)
    else:
        url = send(upload) if yes else ""
    if as_json:
        told = {**asdict(upload), "bytes": upload.size, "sent": yes, "url": url}
        print(json.dumps(told, indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_upload(upload, url, Console(highlight=False))


def show_upload(upload: Upload, url: str, console: Console) -> None:
    """Print what an upload holds, and whether it was sent."""
    files = counted(len(upload.files), "file")
    place = f"{upload.repository}, branch {upload.revision}"
    seen = "private if it is made now" if upload.private else "public if it is made now"
    widest = max(len(name) for name in upload.files)
    card = upload.card.splitlines()
    more = [f"  … {counted(len(card) - CARD_LINES, 'more line')}"] if len(card) > CARD_LINES else []
    lines = [
        f"{'sent' if url else 'to send'}   {files}, {_size(upload.size)}, of {upload.folder}",
        f"to        {place} ({seen})",
        *(f"  {name:<{widest}}  {_size(size)}" for name, size in upload.files.items()),
        "",
        f"model card ({WHOSE[upload.card_of]})",
        *(f"  {line}" for line in card[:CARD_LINES]),
        *more,
        *(f"note      {note}" for note in upload.notes),
        "",
        f"sent: {url}" if url else "nothing was sent: --yes sends it",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _size(count: int) -> str:
    """Return a number of bytes, in kB where it is less than a MB."""
    return gigabytes(count) if count >= 1e6 else f"{count / 1e3:.1f} kB"
