"""Did you mean: the nearest key or value, and what other tools' names are called here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

FOREIGN_NAMES: Mapping[str, str] = {
    # axolotl
    "base_model": "model.name",
    "model_type": "model.name",
    "adapter_type": "adapter.variant",
    "lora_r": "adapter.rank",
    "lora_target_modules": "adapter.target_modules",
    "lora_target_linear": "adapter.target_modules: all-linear",
    "peft_use_rslora": "adapter.variant: rslora",
    "load_in_4bit": "quantization: nf4",
    "load_in_8bit": "quantization: int8",
    "datasets": "dataset",
    "val_set_size": "evaluation.split",
    "test_datasets": "evaluation.path",
    "micro_batch_size": "training.batch_size",
    "num_epochs": "training.epochs",
    "sequence_len": "training.max_length",
    "lr_scheduler": "training.scheduler",
    "evals_per_epoch": "evaluation.every_steps",
    "saves_per_epoch": "training.save_steps",
    "early_stopping_patience": "evaluation.patience",
    "attn_implementation": "model.attention",
    "flash_attention": "model.attention: flash_attention_2",
    "sdp_attention": "model.attention: sdpa",
    # LLaMA-Factory
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "finetuning_type": "adapter.variant",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target": "adapter.target_modules",
    "use_rslora": "adapter.variant: rslora",
    "quantization_bit": "quantization",
    "quantization_method": "quantization.method",
    "double_quantization": "quantization.double_quantization",
    "dataset_dir": "dataset.path",
    "cutoff_len": "training.max_length",
    "max_samples": "dataset.max_rows",
    "val_size": "evaluation.split",
    "eval_dataset": "evaluation.path",
    "flash_attn": "model.attention",
    "default_system": "dataset.system_prompt",
    # transformers, peft, trl, bitsandbytes
    "r": "adapter.rank",
    "use_dora": "adapter.variant",
    "peft_type": "adapter.variant",
    "bnb_4bit_quant_type": "quantization.method",
    "bnb_4bit_use_double_quant": "quantization.double_quantization",
    "bnb_4bit_compute_dtype": "quantization.compute_dtype",
    "torch_dtype": "model.dtype",
    "bf16": "model.dtype: bfloat16",
    "fp16": "model.dtype: float16",
    "output_dir": "output.dir",
    "overwrite_output_dir": "the flag --overwrite",
    "resume_from_checkpoint": "the flag --resume",
    "num_train_epochs": "training.epochs",
    "max_steps": "training.steps",
    "max_seq_length": "training.max_length",
    "max_seq_len": "training.max_length",
    "per_device_train_batch_size": "training.batch_size",
    "per_device_eval_batch_size": "evaluation.batch_size",
    "eval_batch_size": "evaluation.batch_size",
    "gradient_accumulation": "training.gradient_accumulation_steps",
    "grad_accum": "training.gradient_accumulation_steps",
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.scheduler",
    "warmup_steps": "training.warmup_ratio",
    "max_grad_norm": "training.max_gradient_norm",
    "clip_grad_norm": "training.max_gradient_norm",
    "optim": "training.optimizer",
    "adam_beta1": "training.optimizer.beta1",
    "adam_beta2": "training.optimizer.beta2",
    "adam_epsilon": "training.optimizer.epsilon",
    "save_total_limit": "training.keep_checkpoints",
    "eval_steps": "evaluation.every_steps",
    "eval_split": "evaluation.split",
    "test_size": "evaluation.split",
    "system": "dataset.system_prompt",
    "train_file": "dataset.path",
    "train_data": "dataset.path",
    "data": "dataset",
    "random_seed": "seed",
    # mlx-lm, litgpt, torchtune
    "lora_parameters": "adapter",
    "lora_layers": "adapter.target_modules",
    "num_layers": "adapter.target_modules",
    "iters": "training.steps",
    "checkpoint_dir": "model.name",
    "max_steps_per_epoch": "training.steps",
}

NOT_NEEDED: Mapping[str, str] = {
    "sample_packing": "packing is not part of this version: rows are padded to the longest of a batch",
    "packing": "packing is not part of this version: rows are padded to the longest of a batch",
    "logging_steps": "every step is written to metrics.jsonl",
    "report_to": "metrics are written to metrics.jsonl in the run directory",
    "template": "the tokenizer's own chat template is used",
    "chat_template": "the tokenizer's own chat template is used",
    "train_on_inputs": "only completions and assistant turns are trained on",
    "stage": "a recipe is supervised fine-tuning: leave it out",
    "do_train": "`loracli train` trains: leave it out",
}


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.7) -> str | None:
    """Return the candidate nearest to `word`, or None if none is near."""
    by_folded = {_fold(candidate): candidate for candidate in candidates}
    if (folded := _fold(word)) in by_folded:
        return by_folded[folded]
    matches = difflib.get_close_matches(folded, by_folded, n=1, cutoff=cutoff)
    return by_folded[matches[0]] if matches else None


def _fold(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()


def key_hint(path: str, siblings: Iterable[str], all_keys: Iterable[str]) -> str:
    """Return what to write instead of the unknown key `path` (dotted)."""
    section, _, word = path.rpartition(".")
    siblings = sorted(siblings)
    if near := closest(word, siblings):
        return f"did you mean `{section}.{near}`?" if section else f"did you mean `{near}`?"
    folded = word.lower().replace("-", "_")
    if ours := FOREIGN_NAMES.get(folded):
        return f"did you mean `{ours}`?"
    if folded in NOT_NEEDED:
        return NOT_NEEDED[folded]
    elsewhere = {key.rpartition(".")[2]: key for key in sorted(all_keys, reverse=True)}
    if near := closest(word, elsewhere) or _foreign_near(folded):
        return f"did you mean `{elsewhere.get(near, FOREIGN_NAMES.get(near, near))}`?"
    place = f"`{section}`" if section else "a recipe"
    return f"{place} has: {', '.join(siblings)}"


def _foreign_near(word: str) -> str | None:
    return closest(word, FOREIGN_NAMES, cutoff=0.85)


def value_hint(value: object, allowed: Iterable[str]) -> str:
    """Return the allowed values, the nearest one first where there is one."""
    options = list(allowed)
    near = closest(str(value), options, cutoff=0.6)
    listing = f"allowed: {', '.join(options)}"
    return f"did you mean `{near}`? {listing}" if near else listing
