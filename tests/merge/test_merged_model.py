"""All that an adapter can bring besides pairs: the merged model answers as base and adapter do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoHaConfig, LoraConfig, PeftConfig, TrainableTokensConfig, get_peft_model

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import AdapterConfig
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.merge import MergeResult
from lora_cli.merge.merged_model import auto_class_of
from tests.helpers.adapters import change_config, stored
from tests.helpers.families import FAMILIES, Family, logits
from tests.helpers.merges import load, merge_into
from tests.helpers.runs import PLAIN_PEFT

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:.*ensure_weight_tying"),
]
LEAVES = ["q_proj", "v_proj"]
WITHIN = 1e-5
"""Of the largest logit: all is float32, summed in another order."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """Return the folder of a family's model, with tied embeddings or without, made once."""
    made: dict[tuple[str, bool], Path] = {}

    def get(name: str, tied: bool = False) -> Path:
        if (name, tied) not in made:
            config = FAMILIES[name].config()
            config.tie_word_embeddings = tied
            own = Family(
                config=lambda: config,
                auto_class=FAMILIES[name].auto_class,
                task=FAMILIES[name].task,
                leaves=FAMILIES[name].leaves,
                loss=FAMILIES[name].loss,
            )
            made[name, tied] = own.write(tmp_path_factory.mktemp("base") / name)
        return made[name, tied]

    return get


def with_noise(adapted: Any) -> Any:
    """Return an adapted model with noise on all that it trains, biases and heads among it."""
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return adapted.eval()


class Case:
    """An adapter on a base in memory and on the disk, and what merging made of it."""

    def __init__(
        self,
        folder: Path,
        base: Path,
        config: PeftConfig,
        family: str = "llama",
        *,
        auto_class: str = "",
        model: Any = None,
        **options: Any,
    ) -> None:
        self.folder, self.family = folder, FAMILIES[family]
        self.auto_class = auto_class or self.family.auto_class
        if model is None:
            model = load(base, self.auto_class)
        self.before = logits(model, self.family) if not auto_class else None
        self.adapted = with_noise(get_peft_model(model, config))
        self.adapted.save_pretrained(folder / "adapter", **options)
        if options.get("save_embedding_layers") is None:
            change_config(folder / "adapter", base_model_name_or_path=str(base))

    def merge(self, **options: Any) -> MergeResult:
        """Merge, and compare with base and adapter: both in memory and loaded again by peft."""
        told = merge_into(self.folder / "merged", self.folder / "adapter", **options)
        ours = logits(load(self.folder / "merged", self.auto_class), self.family)
        live = logits(self.adapted, self.family)
        assert ours.shape == live.shape
        assert float((ours - live).abs().max()) <= WITHIN * float(live.abs().max())
        if self.before is not None and self.before.shape == live.shape:
            assert float((self.before - live).abs().max()) > 1e-2, "the adapter shows"
        return told

    @property
    def tied(self) -> bool:
        """Return what the merged config says."""
        config = json.loads((self.folder / "merged" / "config.json").read_text("utf-8"))
        return bool(config["tie_word_embeddings"])


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": LEAVES, "task_type": "CAUSAL_LM", **settings})


TIED: dict[str, tuple[Callable[[], PeftConfig], bool]] = {
    "neither": (lora, True),
    "embedding": (lambda: lora(target_modules=[*LEAVES, "embed_tokens"]), False),
    "head": (lambda: lora(target_modules=[*LEAVES, "lm_head"]), False),
    "both": (lambda: lora(target_modules=[*LEAVES, "embed_tokens", "lm_head"]), False),
    "both tied": (
        lambda: lora(target_modules=[*LEAVES, "embed_tokens", "lm_head"], ensure_weight_tying=True),
        False,  # numbers of their own are always right
    ),
    "whole head": (lambda: lora(modules_to_save=["lm_head"]), False),
    "whole embedding tied": (
        lambda: lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
        True,
    ),
    "tokens": (lambda: lora(trainable_token_indices=[3, 5]), True),
    "tokens alone": (
        lambda: TrainableTokensConfig(token_indices=[3, 5], task_type="CAUSAL_LM"),
        True,
    ),
}
"""What is adapted of a tied model, and whether the merged one is tied."""


SAVED = ("embedding", "head", "both tied", "whole head", "tokens")
"""Where the ends lie beside the adapter as the base holds them: peft saves adapted ones so."""


@pytest.mark.parametrize(
    ("what", "saved"), [*((what, False) for what in TIED), *((what, True) for what in SAVED)]
)
def test_a_tied_model_stays_tied_unless_the_adapter_sets_its_ends_apart(
    tmp_path: Path, bases: Callable[..., Path], what: str, saved: bool
) -> None:
    config, stays = TIED[what]
    case = Case(tmp_path, bases("llama", tied=True), config(), save_embedding_layers=saved)
    told = case.merge(verify=saved)
    assert case.tied is stays
    assert told.untied == (() if stays else ("lm_head.weight",))
    names = stored(tmp_path / "merged").keys()
    assert ("lm_head.weight" in names) is not stays


UNTIED: dict[str, Callable[[], PeftConfig]] = {
    "embedding": lambda: lora(target_modules=[*LEAVES, "embed_tokens"]),
    "head": lambda: lora(target_modules=[*LEAVES, "lm_head"]),
    "both": lambda: lora(target_modules=[*LEAVES, "embed_tokens", "lm_head"]),
    "whole head": lambda: lora(modules_to_save=["lm_head"]),
    "whole embedding": lambda: lora(modules_to_save=["embed_tokens"]),
    "tokens": lambda: lora(trainable_token_indices=[3, 5]),
    "tokens alone": lambda: TrainableTokensConfig(token_indices=[3, 5], task_type="CAUSAL_LM"),
    "dora": lambda: lora(use_dora=True),
}


@pytest.mark.parametrize(
    ("what", "saved"),
    [*((what, False) for what in UNTIED), ("embedding", True), ("head", True)],
)
def test_embeddings_and_heads_of_an_untied_model(
    tmp_path: Path, bases: Callable[..., Path], what: str, saved: bool
) -> None:
    case = Case(tmp_path, bases("llama"), UNTIED[what](), save_embedding_layers=saved)
    assert case.merge(verify=saved).untied == ()
    assert not case.tied


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_trained_biases(tmp_path: Path, bases: Callable[..., Path], family: str, bias: str) -> None:
    known = FAMILIES[family]
    config = lora(
        bias=bias,
        target_modules=list(known.leaves[:2]),
        task_type=known.task,
        fan_in_fan_out=family == "gpt2",
    )
    case = Case(tmp_path, bases(family, family == "gpt2"), config, family)
    told = case.merge()
    before, after = stored(bases(family, family == "gpt2")), stored(tmp_path / "merged")
    changed = [n for n in before if n.endswith("bias") and not before[n].equal(after[n])]
    assert changed
    assert told.changed_tensors >= len(changed)


@pytest.mark.filterwarnings("ignore:Adapter 'default'. .* have invalid shape")
def test_biases_on_b(tmp_path: Path, bases: Callable[..., Path]) -> None:
    known = FAMILIES["bert"]
    config = lora(lora_bias=True, target_modules=list(known.leaves), task_type=known.task)
    Case(tmp_path, bases("bert"), config, "bert").merge()


RESIZED: dict[str, tuple[Callable[[], PeftConfig], bool]] = {
    "neither": (lora, True),
    "whole ends": (lambda: lora(modules_to_save=["embed_tokens", "lm_head"]), False),
    "whole embedding": (lambda: lora(modules_to_save=["embed_tokens"]), False),
    "tokens": (lambda: lora(trainable_token_indices=[60, 66]), True),
    "embedding": (lambda: lora(target_modules=[*LEAVES, "embed_tokens"]), False),
    "head": (lambda: lora(target_modules=[*LEAVES, "lm_head"]), False),
}
"""What is adapted of a model of 70 tokens, and whether it stays tied if the base is."""


def resized(folder: Path, base: Path, config: PeftConfig) -> Case:
    """Return an adapter on a base that got 9 tokens more before training; peft saves its ends."""
    model = load(base)
    model.resize_token_embeddings(70, mean_resizing=False)
    case = Case(folder, base, config, model=model, save_embedding_layers=True)
    change_config(folder / "adapter", base_model_name_or_path=str(base))
    return case


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("what", RESIZED)
def test_a_vocabulary_that_was_resized_is_saved_with_the_adapter(
    tmp_path: Path, bases: Callable[..., Path], what: str, tied: bool
) -> None:
    config, stays = RESIZED[what]
    case = resized(tmp_path, bases("llama", tied), config())
    if not tied and what in ("embedding", "head"):
        with pytest.raises(MergeError, match=r"resized to \(70, 64\): it was not saved with"):
            case.merge()
        return
    told = case.merge(verify=True)
    assert told.proof is not None
    config = json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))
    assert config["vocab_size"] == 70
    assert case.tied is (tied and stays)


def test_an_embedding_that_is_saved_beside_its_lora_is_the_one_that_is_added_to(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    """As peft loads it: the base that was trained on had another one than the files hold."""
    model = load(bases("llama"))
    model.get_input_embeddings().weight.data += 0.1
    config = lora(target_modules=[*LEAVES, "embed_tokens"])
    case = Case(tmp_path, bases("llama"), config, model=model, save_embedding_layers=True)
    assert case.merge(verify=True).proof is not None


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_an_adapter_without_a_task_is_for_the_class_that_peft_noted(
    tmp_path: Path, bases: Callable[..., Path], family: str
) -> None:
    known = FAMILIES[family]
    heads = ["classifier"] if family == "bert" else None
    config = LoHaConfig(r=4, target_modules=list(known.leaves[:2]), modules_to_save=heads)
    told = Case(tmp_path, bases(family, family == "t5"), config, family).merge(verify=True)
    assert told.proof is not None


def test_ends_that_an_encoder_decoder_shares_are_not_set_apart_without_a_task_either(
    tmp_path: Path, bases: Callable[..., Path]
) -> None:
    config = LoraConfig(r=4, target_modules=["q", "lm_head"])
    Case(tmp_path, bases("t5", True), config, "t5", save_embedding_layers=False)
    change_config(tmp_path / "adapter", base_model_name_or_path=str(bases("t5", True)))
    with pytest.raises(MergeError, match=r"T5ForConditionalGeneration shares them"):
        merge_into(tmp_path / "merged", tmp_path / "adapter")


@pytest.mark.parametrize(
    ("noted", "built"),
    [
        (["BertForTokenClassification", "transformers.models.bert"], "TokenClassification"),
        (["BertForTokenClassification", "mine"], "SequenceClassification"),
        (["BertOfNextYear", "transformers.models.bert"], "SequenceClassification"),
        ([None, None], "SequenceClassification"),
        (None, "SequenceClassification"),
    ],
)
def test_a_class_that_is_not_of_transformers_is_not_used_but_the_bases_own(
    tmp_path: Path, bases: Callable[..., Path], noted: list[Any] | None, built: str
) -> None:
    keys = ("base_model_class", "parent_library")
    mapping = noted and dict(zip(keys, noted, strict=True))
    settings = {"task_type": None, "auto_mapping": mapping}
    adapter = AdapterFolder(tmp_path, AdapterConfig(tmp_path, settings), {}, {})
    found = auto_class_of(adapter, bases("bert"))
    assert found == f"AutoModelFor{built}"


@pytest.mark.parametrize("own_config", [True, False])
@pytest.mark.parametrize(
    ("task", "auto_class"),
    [
        ("SEQ_CLS", "AutoModelForSequenceClassification"),
        ("TOKEN_CLS", "AutoModelForTokenClassification"),
    ],
)
def test_a_causal_base_becomes_a_classifier(
    tmp_path: Path, bases: Callable[..., Path], task: str, auto_class: str, own_config: bool
) -> None:
    base = bases("llama")
    loader = getattr(transformers, auto_class)
    model = loader.from_pretrained(base, dtype=torch.float32, num_labels=5)
    model.config.pad_token_id = 0
    case = Case(tmp_path, base, lora(task_type=task), auto_class=auto_class, model=model)
    if own_config:
        model.config.id2label = dict(enumerate("abcde"))
        model.config.label2id = {name: number for number, name in enumerate("abcde")}
        model.config.save_pretrained(tmp_path / "adapter")
    told = case.merge(verify=True)
    assert told.dropped == ("lm_head.weight",)
    assert told.proof is not None
    assert told.proof.holds
    config = load(tmp_path / "merged", auto_class).config
    assert config.architectures == [auto_class.replace("AutoModel", "Llama")]
    assert list(config.id2label.values()) == (
        list("abcde") if own_config else [f"LABEL_{number}" for number in range(5)]
    )


def test_a_head_of_other_labels_than_the_bases(tmp_path: Path, bases: Callable[..., Path]) -> None:
    """The base has a head of 3 classes; the adapter brings one of 5."""
    base, known = bases("bert"), FAMILIES["bert"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, num_labels=5, ignore_mismatched_sizes=True
    )
    config = lora(target_modules=list(known.leaves), task_type="SEQ_CLS")
    case = Case(tmp_path, base, config, "bert", model=model)
    told = case.merge(verify=True)
    assert told.proof is not None
    assert load(tmp_path / "merged", known.auto_class).config.num_labels == 5


def test_a_model_that_finds_answers_in_a_text(tmp_path: Path, bases: Callable[..., Path]) -> None:
    base, known = bases("bert"), FAMILIES["bert"]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        base, dtype=torch.float32, num_labels=2
    )
    config = lora(target_modules=list(known.leaves), task_type="QUESTION_ANS")
    adapted = with_noise(get_peft_model(model, config))
    adapted.save_pretrained(tmp_path / "adapter")
    told = merge_into(tmp_path / "merged", tmp_path / "adapter", verify=True)
    assert told.proof is not None
    assert told.proof.holds
    assert {name.partition(".")[0] for name in told.dropped} == {"classifier", "bert"}
    merged = load(tmp_path / "merged", "AutoModelForQuestionAnswering")
    ids = torch.arange(2, 18)[None]
    with torch.no_grad():
        ours, theirs = merged(ids), adapted(ids)
    for name in ("start_logits", "end_logits"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "qwen_moe"])
def test_experts_that_are_adapted_as_parameters(
    tmp_path: Path, bases: Callable[..., Path], family: str
) -> None:
    """The model holds all experts in one parameter; the files keep each by itself."""
    config = lora(
        target_modules=["q_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    case = Case(tmp_path, bases(family), config, family)
    case.merge()
    before, after = stored(bases(family)), stored(tmp_path / "merged")
    assert before.keys() == after.keys()
    changed = [n for n in before if "expert" in n and not before[n].equal(after[n])]
    assert len(changed) == 2 * 4 * 3


@pytest.mark.parametrize("task", ["NO_SUCH_TASK", ""])
def test_a_task_that_is_not_known_is_an_error(
    tmp_path: Path, bases: Callable[..., Path], task: str
) -> None:
    Case(tmp_path, bases("llama"), lora())
    change_config(tmp_path / "adapter", task_type=task)
    with pytest.raises(MergeError, match=r"`task_type` is .*; known are CAUSAL_LM"):
        merge_into(tmp_path / "merged", tmp_path / "adapter")
