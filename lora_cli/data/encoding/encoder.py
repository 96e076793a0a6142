"""What turns an example into tokens, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.formats import Example


class Encoder(Protocol):
    """One way from examples to tokens and labels; it can be pickled."""

    @property
    def fingerprint(self) -> str:
        """Return a digest of all that decides a row's tokens and labels, beside its example."""

    def encode(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
        """Return the example's tokens and labels.

        Raises:
            RowProblemError: this example cannot be used.
            PlanError: none of its kind can be.
        """


@runtime_checkable
class ManyRowsEncoder(Encoder, Protocol):
    """An encoder to which an example may be more than one row, such as a long text."""

    def encode_all(
        self, example: Example, system_prompt: str | None = None
    ) -> Sequence[TokenizedRow]:
        """Return the example's rows, at least one; raises as `encode` does."""


EncodeAll = Callable[[Example, str | None], Sequence[TokenizedRow]]


def encode_all_of(encoder: Encoder) -> EncodeAll:
    """Return what makes an example's rows, one or more, of any encoder."""
    if isinstance(encoder, ManyRowsEncoder):
        return encoder.encode_all
    return lambda example, system_prompt: [encoder.encode(example, system_prompt)]
