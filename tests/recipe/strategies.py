"""Random recipes, and random texts that are nearly recipes."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

TEXT = st.text(min_size=1, max_size=20)
COUNT = st.integers(1, 10**9)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
SHARE = st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)
SHARE_OR_NONE = st.floats(min_value=0, max_value=1, exclude_max=True)
DTYPE = st.sampled_from(["auto", "float32", "bfloat16", "float16"])


def _some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


MODEL = TEXT | _some(
    {"name": TEXT},
    revision=TEXT,
    dtype=DTYPE,
    attention=st.sampled_from(["auto", "sdpa", "eager", "flash_attention_2"]),
    trust_remote_code=st.booleans(),
    allow_pickle=st.booleans(),
)
NAMES = st.lists(TEXT, max_size=4)
PATTERN = st.sampled_from(["q_proj", r"layers\.[0-3]\..*", "(k|v)_proj"])
VARIANT = st.sampled_from(["lora", "rslora"])
ADAPTER = VARIANT | _some(
    {"variant": VARIANT},
    rank=COUNT,
    alpha=POSITIVE | COUNT,
    dropout=SHARE_OR_NONE,
    target_modules=st.sampled_from(["all-linear", "attention", "mlp"])
    | st.lists(TEXT, min_size=1, max_size=4)
    | st.sampled_from([{"regex": r".*layers\.[0-9]+\..*"}, {"regex": "q_proj"}]),
    exclude_modules=NAMES | st.just({"regex": ".*q_proj"}),
    layers=st.lists(st.integers(0, 99) | st.sampled_from(["0-7", "12-12"]), max_size=4),
    modules_to_save=NAMES,
    rank_pattern=st.dictionaries(PATTERN, COUNT, max_size=3),
    alpha_pattern=st.dictionaries(PATTERN, POSITIVE | COUNT, max_size=3),
    target_parameters=st.just("experts") | NAMES,
    trainable_tokens=st.lists(TEXT | st.integers(0, 10**6), max_size=4),
)
QUANTIZATION = (
    st.sampled_from(["none", "nf4", "fp4", "int8", {"method": "none"}, {"method": "int8"}])
    | _some(
        {"method": st.sampled_from(["nf4", "fp4"])},
        double_quantization=st.booleans(),
        compute_dtype=DTYPE,
        full_precision_modules=st.lists(TEXT, max_size=3),
    )
)  # fmt: skip
FOLDER = TEXT.map(lambda text: f"{text}/rows")
DATASET = TEXT | _some(
    {"path": FOLDER},
    split=TEXT,
    format=st.sampled_from(["auto", "messages", "prompt_completion"]),
    max_rows=COUNT,
    system_prompt=TEXT,
    on_bad_row=st.sampled_from(["error", "skip"]),
)
MIXED = st.lists(_some({"path": FOLDER, "weight": POSITIVE}), min_size=2, max_size=4)
PAIRED = st.sampled_from(["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
STEPPING: dict[str, Any] = {
    "weight_decay": SHARE_OR_NONE,
    "beta1": SHARE_OR_NONE,
    "beta2": SHARE_OR_NONE,
    "epsilon": POSITIVE,
}
OPTIMIZER = (
    PAIRED
    | st.just("lora_fa")
    | _some({}, name=PAIRED, lora_plus_ratio=POSITIVE, **STEPPING)
    | _some({"name": st.just("lora_fa")}, **STEPPING)
)
LENGTHS: list[dict[str, Any]] = [{"epochs": POSITIVE | COUNT}, {"steps": COUNT}, {}]
TRAINING = st.tuples(
    st.sampled_from(LENGTHS).flatmap(st.fixed_dictionaries),
    _some(
        {},
        batching=st.sampled_from(["random", "length_grouped", "packed"]),
        batch_size=COUNT,
        gradient_accumulation_steps=COUNT,
        learning_rate=POSITIVE,
        scheduler=st.sampled_from(["cosine", "linear", "constant"]),
        warmup_ratio=SHARE_OR_NONE,
        max_length=st.integers(8, 10**6),
        gradient_checkpointing=st.booleans(),
        max_gradient_norm=POSITIVE,
        optimizer=OPTIMIZER,
        save_steps=COUNT,
        keep_checkpoints=COUNT,
    ),
).map(lambda parts: {**parts[0], **parts[1]})
METRIC = st.sampled_from(["exact_match", "json_fields"])
EVALUATION = SHARE | st.tuples(
    st.fixed_dictionaries({"split": SHARE}) | st.fixed_dictionaries({"path": TEXT}),
    _some(
        {},
        every_steps=COUNT,
        batch_size=COUNT,
        patience=COUNT,
        answers=METRIC | _some({"metric": METRIC}, max_new_tokens=COUNT, batch_size=COUNT),
    ),
).map(lambda parts: {**parts[0], **parts[1]})
RECIPES = _some(
    {
        "model": MODEL,
        "adapter": ADAPTER,
        "dataset": DATASET | MIXED | st.lists(DATASET, min_size=1),
    },
    quantization=QUANTIZATION,
    training=TRAINING,
    evaluation=EVALUATION,
    output=TEXT | _some({}, dir=TEXT),
    seed=st.integers(0, 2**32 - 1),
)
"""What can be written in a recipe, as plain values, shorthands included."""


class _Quoting(yaml.SafeDumper):
    """Quotes every text: PyYAML's idea of what is no text is that of YAML 1.1, ours of 1.2."""

    def ignore_aliases(self, _data: object) -> bool:
        """Return that values are written out wherever they stand."""
        return True


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def as_yaml(value: Any) -> str:
    """Return plain values as YAML, written out without aliases."""
    return yaml.dump(value, Dumper=_Quoting, sort_keys=False, width=1000)


_WORDS = [
    "model", "adapter", "dataset", "training", "steps", "evaluation", "split", "path", "variant",
    "lora", "nf4", "method", "quantization", "target_modules", "regex", "optimizer", "<<", "name",
    "1e-4", "0x1", "1_0", "1:30", ".inf", "~", "yes", "true", "-1", "0.5", "''", '"', "'", "é",
    "名",
]  # fmt: skip
_MARKS = [": ", ":", "\n", "\n  ", "\n    ", "- ", "? ", "{", "}", "[", "]", ",", " ", "\t", "#"]
_RARE = ["&a ", "*a", "!!str ", "!x ", "|", ">", "%", "@", "---\n", "...\n", "\r\n", "\\", "\u2028"]
FRAGMENTS = st.lists(st.sampled_from(_WORDS + _MARKS * 2 + _RARE), max_size=40).map("".join)
"""Texts of the pieces that YAML and recipes are made of."""
