"""The recipe: what a user can write, with its defaults and its words of help.

This module does not know where a value stood in the file (`source`), whether values fit together
(`checks`), or what they come to on a machine (`plan`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from lora_cli.adapters import AdapterSpec
from lora_cli.formats import FormatName
from lora_cli.formats.template import TemplateSection
from lora_cli.optimizers import OptimizerSpec
from lora_cli.quantization import QuantizationSpec
from lora_cli.section import Section
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.answers import AnswerMetric
from lora_cli.tasks.causal_lm import CausalLm
from lora_cli.tasks.masking import LossOn, Reasoning, Truncation

Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]


def _column_form(value: Any) -> str:
    return "names" if isinstance(value, list | tuple) else "mapping"


ColumnNames = Annotated[
    Annotated[dict[Text, Text], Tag("mapping")]
    | Annotated[tuple[Text, ...], Field(strict=False, min_length=1), Tag("names")],
    Discriminator(_column_form),
]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Texts = Annotated[list[Text], Field(min_length=1)]
Paths = Annotated[
    tuple[Text, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=Text | Texts),
]


class ModelSection(Section):
    """The base model."""

    main_field = "name"

    name: Text
    """A hub id, a local folder, a `.gguf` file, or one of the two inside an installed Python
    package: `package://module/file.gguf`."""
    revision: Text | None = None
    """Branch, tag or commit on the hub. Left out: `main`, pinned to its commit in the plan."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the frozen base; the adapter is float32, or as `adapter.dtype` says. `auto`: the
    best here."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention kernel. `auto`: `eager` on a CPU where no row has over 512 tokens, else `sdpa`."""
    chat_template: Text | None = None
    """Chat template instead of the tokenizer's own: the name of a built-in one (chatml, llama2,
    llama3, mistral, gemma, qwen, phi, zephyr, alpaca, vicuna), or a `.jinja` file beside the
    recipe."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""
    allow_pickle: bool = False
    """Read `.bin` weights, which can run code when opened. Off: safetensors or GGUF only."""


class DatasetSection(Section):
    """One source of training rows."""

    main_field = "path"

    path: Paths
    """A file, a folder, a pattern (`data/*.jsonl`), or a list of them, relative to the recipe; a
    data set of the hub (`owner/name`), or an address (`s3://…`)."""
    split: Text | None = None
    """Which part of a folder or of a data set of the hub; `train` if left out."""
    subset: Text | None = None
    """Which configuration of a data set of the hub that has several."""
    format: FormatName = "auto"
    """Row format; `auto` tells it from the columns, and the plan says how."""
    columns: ColumnNames = Field(default_factory=dict)
    """What the file calls the format's columns: `{prompt: question}`, or `{target: translation.fr}`
    for a field inside one. A list names the columns of a file that has no header."""
    template: TemplateSection | None = None
    """What a row says, written in Jinja with its columns: `{prompt: "Q: {{ question }}",
    completion: "{{ answer }}"}`, or `user` and `assistant` (and `system`), or `text`."""
    max_rows: PositiveInt | None = None
    """Use the first rows only."""
    system_prompt: Text | None = None
    """System turn for conversations that have none of their own."""
    weight: float | None = Field(default=None, gt=0)
    """Share of an epoch that this source makes up, against the weights of the others; left out of
    all, an epoch is every row once."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What a row that cannot be used does: stop with its line, or be counted and left out."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the names of the columns of a file without a header; none where it has one."""
        return self.columns if isinstance(self.columns, tuple) else ()

    @property
    def renamed_columns(self) -> dict[str, str]:
        """Return the file's columns by the format's names; none where they name a header."""
        return self.columns if isinstance(self.columns, dict) else {}

    @property
    def template_parts(self) -> dict[str, str]:
        """Return the parts of the template that are written."""
        return self.template.parts if self.template else {}


class TrainingSection(Section):
    """How the adapter is trained."""

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data; 3 if neither `epochs` nor `steps` is given."""
    steps: PositiveInt | None = None
    """Optimizer steps, instead of `epochs`."""
    batch_size: PositiveInt = 8
    """Rows in one forward pass on one device."""
    gradient_accumulation_steps: PositiveInt = 1
    """Forward passes whose gradients make one optimizer step."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; left out, the adapter variant's own: 2e-4 for LoRA."""
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """What the learning rate does after the warm-up."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from 0."""
    batching: Literal["random", "length_grouped", "packed"] = "random"
    """How rows come together: at random, with rows of like length, or several to a sequence of up
    to `max_length` tokens, where none sees another; a batch is then of packs."""
    sampling_temperature: float | None = Field(default=None, ge=1)
    """Mixes several sources: a share of an epoch is as the T-th root of a source's size. 1: as they
    are; the higher, the more of the small ones."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens kept of a row; what is cut is counted in the plan."""
    truncation: Truncation = "turns"
    """What a longer row loses: whole `turns` from its end, or `tokens`, in the middle of an answer
    too. A row whose first answer does not fit cannot be used with `turns`."""
    loss_on: LossOn = "assistant"
    """What is learnt: every answer of the `assistant`, the `last_turn` alone, or `everything`. An
    answer that says `train` decides for itself, with `everything` any turn; plain text is always
    learnt whole."""
    reasoning: Reasoning = "keep"
    """What an assistant thought before it answered: `keep` it, where the chat template writes it,
    or `drop` it from the rows."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    optimizer: OptimizerSpec | None = None
    """The optimizer, by name or with its settings; `adamw` if left out, `paged_adamw` for the
    variant `qlora`."""
    save_steps: PositiveInt = 200
    """Steps between checkpoints; one is always written at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints stay on disk."""


class AnswersSection(Section):
    """Greedy answers to the evaluation rows, by the base and by the adapter, scored."""

    main_field = "metric"

    metric: AnswerMetric
    """`exact_match`; `json_fields`: valid-JSON rate and share of fields that are right; `rouge_l`:
    words in common; `label_words`: the label that is answered, and the one that is likeliest."""
    labels: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = None
    """For `label_words`, the answers that there are: `[Positive, Negative]`."""
    max_new_tokens: PositiveInt = 128
    """Longest answer."""
    batch_size: PositiveInt = 16
    """Answers generated at once."""


class EvaluationSection(Section):
    """Rows kept apart, and what is measured on them."""

    main_field = "split"

    split: Fraction | None = None
    """Share of the training rows to keep apart, drawn with the seed."""
    path: Text | None = None
    """Rows of their own instead: a name as in `dataset.path`, read as the first data set is."""
    split_name: Text | None = None
    """The split to evaluate on, of `path`, or of the first data set where that is left out."""
    every_steps: PositiveInt | None = None
    """Steps between evaluations; about once an epoch, and at the end, if left out."""
    batch_size: PositiveInt = 16
    """Rows in one forward pass of the evaluation."""
    patience: PositiveInt | None = None
    """Stop after this many evaluations without a better loss."""
    answers: AnswersSection | None = None
    """Compare generated answers of base and adapter after training."""


class OutputSection(Section):
    """Where results go."""

    main_field = "dir"

    dir: Text | None = None
    """The run directory, relative to the working directory; `runs/<recipe name>` if left out."""


Datasets = Annotated[list[DatasetSection], Field(min_length=1)]


class Recipe(Section):
    """A loracli recipe: base model, adapter, data, and how to train."""

    model: ModelSection
    """The base model: its name, or a mapping."""
    task: TaskSpec = Field(default_factory=CausalLm)
    """What is learnt: `causal_lm` if left out, or a mapping."""
    adapter: AdapterSpec
    """The adapter: its variant, or a mapping."""
    quantization: QuantizationSpec | None = None
    """How the base's weights are held: `none`, `nf4`, `fp4`, `int8`, or a mapping. `none` if left
    out, `nf4` for the variant `qlora`."""
    dataset: Annotated[
        tuple[DatasetSection, ...],
        Field(strict=False, min_length=1),
        BeforeValidator(_as_list, json_schema_input_type=DatasetSection | Datasets),
    ]
    """The training rows: a path, a mapping, or a list of them."""
    training: TrainingSection = Field(default_factory=TrainingSection)
    """How the adapter is trained."""
    evaluation: EvaluationSection | None = None
    """Rows kept apart: a share of the data, or a mapping. Left out, nothing is evaluated."""
    output: OutputSection = Field(default_factory=OutputSection)
    """Where results go."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the adapter's start, the order of rows, dropout and the evaluation split."""
