"""The encoder of each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_cli.data.encoding.encode_seq2seq import Seq2SeqEncoder
from lora_cli.data.encoding.encode_sequence_classification import SequenceClassificationEncoder
from lora_cli.data.encoding.encode_token_classification import TokenClassificationEncoder
from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.token_classification import TokenClassification

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encoder_for(
    task: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    masking: Masking | None = None,
) -> Encoder:
    """Return what turns a task's examples into tokens and labels.

    Raises:
        PlanError: the tokenizer cannot do it.
    """
    if isinstance(task, SequenceClassification):
        return SequenceClassificationEncoder(tokenizer, task, max_length=max_length)
    if isinstance(task, TokenClassification):
        return TokenClassificationEncoder(tokenizer, task, max_length=max_length)
    if isinstance(task, Seq2SeqLm):
        return Seq2SeqEncoder(tokenizer, max_length=max_length)
    return Tokenizer(tokenizer, max_length=max_length, masking=masking)
