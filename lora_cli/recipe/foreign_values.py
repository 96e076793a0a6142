"""What other tools call the values of a recipe's choices, and what they have that it does not."""

from __future__ import annotations

from collections.abc import Mapping

_DTYPES = {
    "bfloat16": "bf16 bf16-true bf16-mixed torch.bfloat16",
    "float16": "fp16 half 16 16-true 16-mixed torch.float16",
    "float32": "fp32 full single 32 32-true torch.float32",
}

FOREIGN_VALUES: Mapping[str, Mapping[str, str]] = {
    "model.dtype": _DTYPES,
    "adapter.dtype": {name: _DTYPES[name] for name in ("float32", "bfloat16")},
    "quantization.compute_dtype": _DTYPES,
    "model.attention": {
        "flash_attention_2": "flash fa2 flash_attn flash_attn_2 flash_attention flash2",
        "sdpa": "sdp torch pytorch disabled true",
        "eager": "vanilla false",
    },
    "adapter.variant": {
        "lora": "peft unsloth true",
        "rslora": "rs rank_stabilized use_rslora",
        "dora": "qdora",
        "miss": "bone",
        "prompt_tuning": "prompt soft_prompt",
        "prefix_tuning": "prefix",
        "p_tuning": "ptuning p-tuning prompt_encoder",
    },
    "adapter.target_modules": {"all-linear": "all linear auto"},
    "quantization.method": {
        "nf4": "4 4bit 4-bit int4 bnb bnb.nf4 bnb.nf4-dq bitsandbytes true load_in_4bit qlora",
        "fp4": "bnb.fp4",
        "int8": "8 8bit 8-bit bnb.int8 load_in_8bit llm.int8",
        "none": "false no off null 16",
    },
    "dataset.format": {
        "messages": """chat chatml chat_template conversation conversations openai
            conversational chat_ml""",
        "sharegpt": "vicuna share_gpt",
        "alpaca": "instruction instruct instruction_tuning alpaca_chat",
        "prompt_completion": "completions input_output prompt_response",
        "question_answer_context": "qa question_answer squad gsm8k context_qa",
        "text": "raw pretrain pretraining pt plain plain_text language_modeling cpt",
        "template": "jinja jinja2 user_defined custom",
        "labelled_text": "classification labeled_text text_classification sentiment glue sst2 nli",
        "labelled_tokens": "ner tagging labeled_tokens token_classification conll conll2003 pos",
        "source_target": "translation summarization summarisation seq2seq text2text",
    },
    "training.scheduler": {
        "constant": "constant_with_warmup none",
        "cosine": "cosine_with_restarts cosine_with_min_lr cosine_decay cosineannealinglr",
        "linear": "polynomial linear_decay",
    },
    "training.optimizer.name": {
        "adamw": "adam adamw_torch adamw_torch_fused adamw_hf torch.optim.adamw",
        "adamw_8bit": "adamw_bnb_8bit adamw8bit bnb.optim.adamw8bit",
        "paged_adamw": "paged_adamw_32bit pagedadamw pagedadamw32bit bnb.optim.pagedadamw",
        "paged_adamw_8bit": "pagedadamw8bit bnb.optim.pagedadamw8bit",
        "lora_fa": "lorafa",
    },
    "evaluation.answers.metric": {
        "exact_match": "accuracy em exact match",
        "json_fields": "json",
        "rouge_l": "rouge rougel rouge-l",
        "label_words": "f1 verbalizer label labels",
    },
    "task.name": {
        "causal_lm": "sft clm pretrain text-generation language-modeling",
        "sequence_classification": """seq_cls text-classification classification regression
            sentiment-analysis""",
        "token_classification": "token_cls ner token-classification",
        "seq2seq_lm": "seq_2_seq_lm seq2seq text2text-generation summarization translation",
    },
}
"""Key → our value → other tools' words for it, or for what comes nearest."""

VALUE_NOTES: Mapping[str, Mapping[str, str]] = {
    "adapter.variant": {
        "not part of this version": "hra c3a vblora shira road delora waveft xlora llama_adapter",
        "only adapters are trained": "full freeze none false no off",
    },
    "quantization.method": {
        "not part of this version": "gptq awq hqq eetq aqlm fp8 torchao quanto",
    },
    "model.attention": {"not part of this version": "flash_attention_3 xformers flex"},
    "dataset.format": {
        "`completion` is two formats: `prompt_completion` of two columns, `text` of one":
            "completion",
        "pairs to prefer are not part of this version":
            "dpo orpo kto rm reward preference rlhf ranking",
    },
    "evaluation.answers.metric": {
        "not part of this version": "bleu meteor bertscore",
        "every evaluation measures it: leave the line out": "loss perplexity",
        "leave the line out for none": "none false no off",
    },
}  # fmt: skip
"""Key → what to say → the words it is said of."""


def foreign_value(key: str, word: str) -> str:
    """Return our value for another tool's `word`, or an empty text."""
    return _meaning(FOREIGN_VALUES.get(key, {}), word)


def value_note(key: str, word: str) -> str:
    """Return what to say of a `word` that has no counterpart here, or an empty text."""
    return _meaning(VALUE_NOTES.get(key, {}), word)


def _meaning(table: Mapping[str, str], word: str) -> str:
    folded = word.lower()
    return next((meaning for meaning, words in table.items() if folded in words.split()), "")
