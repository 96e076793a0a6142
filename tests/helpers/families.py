"""One tiny random model of each family of architectures, with a batch and a loss of its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional

from lora_cli.tasks.causal_lm import Batch, CausalLm

mean_loss = CausalLm().mean_loss
VOCABULARY, HIDDEN, INNER, ROWS, TOKENS = 61, 64, 128, 4, 12
"""64 is the block that bitsandbytes scales 4-bit weights by."""


@dataclass(frozen=True)
class Family:
    """A tiny model of an architecture, and the task it is tried on."""

    config: Callable[[], Any]
    auto_class: str
    task: str
    leaves: tuple[str, ...]
    """Last names of the modules that are adapted."""
    loss: Callable[[Any, Any], torch.Tensor]
    heads: tuple[str, ...] = ("lm_head",)
    """What comes after the body, and is never quantized."""

    def write(self, folder: Path) -> Path:
        """Write the model with random weights into `folder`; return it."""
        torch.manual_seed(0)
        model = getattr(transformers, self.auto_class).from_config(self.config())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "embed" not in name:
                    parameter.mul_(3.0)  # logits that an adapter can move, as a trained model's
        model.save_pretrained(folder)
        return folder

    def modules(self, model: Any) -> list[str]:
        """Return the full names of the modules that are adapted."""
        return [name for name, _ in model.named_modules() if name.rpartition(".")[2] in self.leaves]


def _llama_like() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }


def _gpt2() -> Any:
    return transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=HIDDEN,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=1,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


def _bert() -> Any:
    return transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=INNER,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )


def _t5() -> Any:
    return transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=HIDDEN,
        d_kv=16,
        d_ff=INNER,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )


def _mixtral() -> Any:
    return transformers.MixtralConfig(**_llama_like(), num_local_experts=4, num_experts_per_tok=2)


def _qwen_moe() -> Any:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN}
    return transformers.Qwen3MoeConfig(**_llama_like(), **experts, head_dim=16)


def batch() -> Batch:
    """Return rows of random tokens; the last is two tokens shorter than the others."""
    torch.manual_seed(1)
    ids = torch.randint(2, VOCABULARY, (ROWS, TOKENS))
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    labels = ids.where(mask.bool(), -100)
    labels[:, :3] = -100
    return Batch(ids, mask, labels)


def _class_loss(model: Any, rows: Batch) -> torch.Tensor:
    logits = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits
    return functional.cross_entropy(logits.float(), rows.input_ids[:, 0] % 3)


def _answer_loss(model: Any, rows: Batch) -> torch.Tensor:
    inputs = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
    answers = rows.input_ids[:, :6]
    logits = model(**inputs, decoder_input_ids=answers).logits[:, -6:]
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), answers[:, 1:].flatten())


def logits(model: Any, family: Family) -> torch.Tensor:
    """Return the model's logits for `batch`, in float32."""
    rows = batch()
    inputs = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
    if family.task == "SEQ_2_SEQ_LM":
        inputs["decoder_input_ids"] = rows.input_ids[:, :6]
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits.float()
    return found


LLAMA_LEAVES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CAUSAL: dict[str, Any] = {
    "auto_class": "AutoModelForCausalLM",
    "task": "CAUSAL_LM",
    "loss": mean_loss,
}
FAMILIES: dict[str, Family] = {
    "llama": Family(
        config=lambda: transformers.LlamaConfig(**_llama_like()), leaves=LLAMA_LEAVES, **CAUSAL
    ),
    "gpt2": Family(config=_gpt2, leaves=("c_attn", "c_proj", "c_fc"), **CAUSAL),
    "bert": Family(
        config=_bert,
        auto_class="AutoModelForSequenceClassification",
        task="SEQ_CLS",
        leaves=("query", "key", "value"),
        loss=_class_loss,
        heads=("classifier",),
    ),
    "t5": Family(
        config=_t5,
        auto_class="AutoModelForSeq2SeqLM",
        task="SEQ_2_SEQ_LM",
        leaves=("q", "k", "v", "o", "wi", "wo"),
        loss=_answer_loss,
    ),
    "mixtral": Family(config=_mixtral, leaves=LLAMA_LEAVES, **CAUSAL),
    "qwen_moe": Family(config=_qwen_moe, leaves=LLAMA_LEAVES, **CAUSAL),
}
