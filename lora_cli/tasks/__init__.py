"""What is learnt from a batch, one file a task: collation, loss, metrics."""

from typing import Annotated

from lora_cli.section import OneOf
from lora_cli.tasks.causal_lm import CausalLm
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.task import Task
from lora_cli.tasks.token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    "causal_lm": CausalLm,
    "sequence_classification": SequenceClassification,
    "token_classification": TokenClassification,
    "seq2seq_lm": Seq2SeqLm,
}
TaskSpec = Annotated[
    CausalLm | SequenceClassification | TokenClassification | Seq2SeqLm,
    OneOf(),
]
