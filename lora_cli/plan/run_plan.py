"""RunPlan: what a run will do. Made once by `resolve`, never changed, the engine's only input.

`digest` is the run's identity. It covers content (weights, rows, tokens) and choices, not places:
the same recipe on the same files gives the same digest in another folder.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lora_cli.adapters import AdapterSpec
from lora_cli.facts.dataset import TokenFacts
from lora_cli.files import sha256_of_text
from lora_cli.formats import NamedFormat
from lora_cli.optimizers import OptimizerSpec
from lora_cli.quantization import QuantizationSpec
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.answers import AnswerMetric
from lora_cli.tasks.masking import Masking

DType = Literal["float32", "bfloat16", "float16"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
PLACE = {"place": True}
"""Marks a field that says where something lies, or how it came to be: not part of the digest."""


class PlanPart(BaseModel):
    """A frozen part of the plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Decision(PlanPart):
    """One value of the plan and where it came from."""

    field: str
    value: str
    reason: str


class ModelPlan(PlanPart):
    """The base model."""

    name: Annotated[str, Field(json_schema_extra=PLACE)]
    kind: Annotated[Literal["hub", "folder", "gguf"], Field(json_schema_extra=PLACE)]
    folder: Annotated[str, Field(json_schema_extra=PLACE)]
    gguf: Annotated[str | None, Field(json_schema_extra=PLACE)] = None
    revision: str
    fingerprint: str
    architecture: str
    model_type: str
    parameters: int
    context_length: int | None
    tied_embeddings: bool
    heads: tuple[str, ...]
    new_heads: tuple[str, ...]
    """Modules that the task puts on the model."""
    padding_token: int
    tokenizer_sha256: str
    chat_template_sha256: str | None
    chat_template: str | None
    """The template in place of the tokenizer's own; None: its own, if it has one."""
    stop_tokens: dict[str, int]
    """What ends an answer: the token that the chat template ends a turn with, and the
    tokenizer's own end."""
    dtype: DType
    attention: Attention
    trust_remote_code: bool
    allow_pickle: bool


class AdapterPlan(PlanPart):
    """The adapter: the recipe's fields, all of them filled in, and what they come to here."""

    spec: AdapterSpec
    modules: tuple[str, ...]
    peft_names: tuple[str, ...]
    trainable_parameters: int


class FilePlan(PlanPart):
    """A file of rows and its content."""

    file: Annotated[str, Field(json_schema_extra=PLACE)]
    sha256: str


class SourcePlan(PlanPart):
    """One source of rows: one file or more, read in this order."""

    files: tuple[FilePlan, ...]
    format: NamedFormat
    columns: dict[str, str] | tuple[str, ...]
    template: dict[str, str]
    max_rows: int | None
    system_prompt: str | None
    on_bad_row: Literal["error", "skip"]
    weight: float | None
    rows: int
    kept: int
    dropped: Annotated[tuple[str, ...], Field(json_schema_extra=PLACE)]
    """`line: reason` of the first rows that are not used; before it the file, if they are many."""
    dropped_by_reason: dict[str, int]
    """All rows that are not used, counted; figures within a reason are left out."""

    @property
    def dropped_rows(self) -> int:
        """Return how many rows are not used."""
        return self.rows - self.kept


class DataPlan(PlanPart):
    """The rows to train on."""

    sources: tuple[SourcePlan, ...]
    max_length: int
    masking: Masking
    train: TokenFacts


class AnswersPlan(PlanPart):
    """Generated answers to compare."""

    metric: AnswerMetric
    labels: tuple[str, ...] | None
    max_new_tokens: int
    batch_size: int


class EvaluationPlan(PlanPart):
    """The rows kept apart, and when they are used."""

    source: SourcePlan | None
    split: float | None
    tokens: TokenFacts
    every_steps: int
    batch_size: int
    patience: int | None
    answers: AnswersPlan | None


class SchedulePlan(PlanPart):
    """Steps and learning rate."""

    steps: int
    epochs: float
    steps_per_epoch: int
    batching: Literal["random", "length_grouped", "packed"]
    sampling_temperature: float | None
    units_per_epoch: int
    """Rows, or packs of rows."""
    batch_size: int
    gradient_accumulation_steps: int
    processes: int
    tokens_per_step: int
    learning_rate: float
    scheduler: Literal["cosine", "linear", "constant"]
    warmup_ratio: float
    warmup_steps: int
    max_gradient_norm: float
    gradient_checkpointing: bool
    save_steps: int
    keep_checkpoints: int


class DevicePlan(PlanPart):
    """The device."""

    type: Literal["cpu", "cuda"]
    name: Annotated[str, Field(json_schema_extra=PLACE)]
    memory_bytes: Annotated[int, Field(json_schema_extra=PLACE)]


class RunPlan(PlanPart):
    """Everything a run does."""

    version: Literal[1] = 1
    task: TaskSpec
    model: ModelPlan
    adapter: AdapterPlan
    quantization: QuantizationSpec
    data: DataPlan
    evaluation: EvaluationPlan | None
    schedule: SchedulePlan
    optimizer: OptimizerSpec
    device: DevicePlan
    seed: int
    run_dir: Annotated[str, Field(json_schema_extra=PLACE)]
    recipe_text: Annotated[str, Field(json_schema_extra=PLACE)]
    decisions: Annotated[tuple[Decision, ...], Field(json_schema_extra=PLACE)]
    warnings: Annotated[tuple[str, ...], Field(json_schema_extra=PLACE)]

    @property
    def sources(self) -> tuple[SourcePlan, ...]:
        """Return all sources of rows: to train on, and to evaluate on if they have one."""
        apart = self.evaluation.source if self.evaluation else None
        return (*self.data.sources, *([apart] if apart else []))

    @property
    def digest(self) -> str:
        """Return the sha256 of content and choices, in hexadecimal."""
        return sha256_of_text(json.dumps(content_of(self), sort_keys=True, ensure_ascii=False))

    def to_json(self) -> str:
        """Return the plan as indented JSON, its digest first."""
        fields = self.model_dump(mode="json")
        return json.dumps({"digest": self.digest, **fields}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunPlan:
        """Return the plan that `to_json` wrote.

        Raises:
            ValueError: the text is no plan, or was changed after its digest was taken.
        """
        try:
            fields = json.loads(text)
        except RecursionError:
            raise ValueError("not a plan: nested too deeply") from None
        if not isinstance(fields, dict):
            raise ValueError("not a plan")
        digest = fields.pop("digest", None)
        plan = cls.model_validate_json(json.dumps(fields))
        if digest != plan.digest:
            raise ValueError("the plan was changed after its digest was taken")
        return plan


def content_of(part: BaseModel) -> dict[str, Any]:
    """Return the part as plain values without its places."""
    content = {}
    for name, info in type(part).model_fields.items():
        if info.json_schema_extra != PLACE:
            content[name] = _plain(getattr(part, name))
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return content_of(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
