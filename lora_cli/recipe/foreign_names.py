"""What other tools call the keys of a recipe, and what they have that a recipe does not.

From the documented options of axolotl, LLaMA-Factory, ms-swift, unsloth, torchtune, litgpt,
mlx-lm, transformers, peft, trl and bitsandbytes. Each table is written by what it leads to.
"""

from __future__ import annotations

from collections.abc import Mapping


def _by_word(table: Mapping[str, str]) -> Mapping[str, str]:
    return {word: meaning for meaning, words in table.items() for word in words.split()}


FOREIGN_NAMES = _by_word({
    "model.name": """base_model base_model_name base_model_name_or_path model_name
        model_name_or_path pretrained_model_name_or_path pretrained_model model_id
        model_id_or_path model_path hf_model checkpoint_dir model_dir
        model.path model.id model.model model.repo model.base model.checkpoint""",
    "model.revision": "model_revision base_model_revision revision_of_model",
    "model.dtype": "torch_dtype model_dtype precision weights_dtype",
    "model.dtype: bfloat16": "bf16 bfloat16 pure_bf16",
    "model.dtype: float16": "fp16 float16",
    "model.dtype: float32": "fp32 float32",
    "model.attention": "attn_implementation attn_impl flash_attn attn",
    "model.attention: flash_attention_2":
        "flash_attention use_flash_attention_2 use_flash_attention use_flash_attn",
    "model.attention: sdpa": "sdp_attention use_sdpa",
    "model.attention: eager": "eager_attention",
    "model.chat_template": ".template chat_template_jinja chat_template_path chat_template_name",
    "task.name": "task_type task.type task.kind",
    "task.labels": "label_names label_list id2label num_labels classes task.classes",
    "task.problem": "problem_type task.problem_type",
    "adapter: {variant: lora, rank: 8}": "peft peft_config lora lora_config lora_parameters",
    "adapter.variant": """adapter_type finetuning_type fine_tune_type peft_type peft_method
        tuner_type train_type sft_type tuner
        adapter.type adapter.name adapter.method adapter.kind""",
    "adapter.variant: qlora": "qlora",
    "adapter.variant: dora": "use_dora dora peft_use_dora lora_dora",
    "adapter.variant: pissa": "pissa_init pissa",
    "adapter.variant: rslora": "use_rslora peft_use_rslora rslora",
    "adapter.rank": "r lora_r lora_rank lora_dim",
    "adapter.virtual_tokens": "num_virtual_tokens n_virtual_tokens prompt_length prefix_length",
    "adapter.text": "prompt_tuning_init_text",
    "adapter.projection_size": "prefix_projection",
    "adapter.encoder": "encoder_reparameterization_type",
    "adapter.encoder_size": "encoder_hidden_size",
    "adapter.block_size": "oft_block_size boft_block_size",
    "adapter.share_blocks": "block_share oft_block_share",
    "adapter.butterfly_factors": "boft_n_butterfly_factor n_butterfly_factor",
    "adapter.cayley": "use_cayley_neumann",
    "adapter.frequencies": "n_frequency",
    "adapter.factor": "decompose_factor lokr_factor",
    "adapter.feedforward_modules": "ff_modules ia3_feedforward_modules",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "adapter.target_modules": """lora_target lora_target_modules lora_modules lora_attn_modules
        apply_lora_to_mlp apply_lora_to_output lora_query lora_key lora_value lora_projection
        lora_mlp lora_head keys""",
    "adapter.target_modules: all-linear": "lora_target_linear",
    "adapter.target_modules.regex": "target_regex layers_pattern",
    "adapter.layers": "layers_to_transform peft_layers_to_transform lora_layers num_layers",
    "adapter.modules_to_save": "lora_modules_to_save additional_target",
    "adapter.target_parameters": "lora_target_parameters",
    "adapter.trainable_tokens": "trainable_token_indices",
    "quantization": """quantization_bit quant_bits q_bits bits quantize quantization_config
        bnb_config bnb""",
    "quantization: nf4": "load_in_4bit use_4bit",
    "quantization: int8": "load_in_8bit use_8bit",
    "quantization.method": """quant_method quantization_method quantization_type quant_type
        bnb_4bit_quant_type quantization.type quantization.name quantization.kind""",
    "quantization.double_quantization":
        "bnb_4bit_use_double_quant use_double_quant double_quant use_nested_quant",
    "quantization.compute_dtype": "bnb_4bit_compute_dtype",
    "quantization.full_precision_modules":
        "llm_int8_skip_modules modules_to_not_convert skip_modules",
    "dataset": "datasets data train_dataset train_datasets dataset_mixture",
    "dataset.path": """train_file train_files train_path train_data data_path data_file data_files
        data_dir dataset_path dataset_dir dataset_name json_path source file_name jsonl
        dataset.name dataset.file dataset.files dataset.data dataset.train""",
    "dataset.split": "dataset_train_split train_on_split train_split",
    "dataset.subset": "dataset_config dataset_config_name dataset_subset dataset.config",
    "dataset.format": "type ds_type formatting data_format dataset_type dataset_format",
    "dataset.columns": "column_map column_mapping columns_mapping fields",
    "dataset.columns: {text: NAME}": "dataset_text_field text_field text_feature text_column field",
    "dataset.columns: {messages: NAME}":
        "field_messages messages_key messages_field messages_column conversation_column",
    "dataset.columns: {prompt: NAME}": "prompt_feature prompt_key prompt_field prompt_column",
    "dataset.columns: {completion: NAME}": """completion_feature completion_key completion_field
        completion_column response_field""",
    "dataset.columns: {instruction: NAME}": "field_instruction",
    "dataset.columns: {input: NAME}": "field_input",
    "dataset.columns: {output: NAME}": "field_output",
    "dataset.columns: {system: NAME}": "field_system",
    "dataset.columns: {tools: NAME}": "field_tools",
    "dataset.columns: {label: NAME}": "label_column label_column_name label_field",
    "dataset.template": "prompt_template prompt_style instruction_template template_string",
    "dataset.max_rows": """max_samples max_train_samples num_samples train_dataset_sample
        max_examples limit""",
    "dataset.system_prompt":
        """.system dataset.system default_system system_message default_system_message
        default_system_prompt""",
    "dataset.on_bad_row": "strict skip_invalid",
    "training": "trainer training_args training_arguments sft_config hyperparameters",
    "training.epochs": "num_epochs num_train_epochs n_epochs max_epochs epoch",
    "training.steps": """max_steps iters max_iters num_steps n_steps total_steps train_steps
        num_train_steps num_training_steps max_steps_per_epoch""",
    "training.batch_size": """micro_batch_size per_device_train_batch_size train_batch_size
        per_gpu_train_batch_size train_micro_batch_size_per_gpu""",
    "training.gradient_accumulation_steps": """gradient_accumulation grad_accum
        grad_accumulation_steps gradient_accumulation_iters accumulate_grad_batches
        accumulation_steps""",
    "training.learning_rate": "lr peak_lr max_lr",
    "training.scheduler": """lr_scheduler lr_scheduler_type lr_scheduler_name lr_schedule
        scheduler_type schedule decay""",
    "training.warmup_ratio": "warmup_proportion warmup_fraction",
    "training.max_length": """sequence_len cutoff_len max_seq_length max_seq_len seq_len seq_length
        model_max_length max_sequence_length context_length
        training.block_size dataset.block_size""",
    "training.loss_on": """train_on_inputs train_on_prompt mask_prompt completion_only_loss
        assistant_only_loss train_on_responses_only roles_to_train train_on_turn""",
    "training.loss_on: last_turn": "mask_history",
    "training.truncation": "truncation_strategy truncation_side excess_length_strategy",
    "training.batching: packed": """packing sample_packing neat_packing padding_free
        use_packing pack_sequences dataset_packed training.pack""",
    "training.batching: length_grouped": "group_by_length length_grouped_sampling",
    "dataset.weight": """interleave_probs probabilities mixing_weights dataset_weights
        interleave_probabilities sampling_weight dataset.probability dataset.ratio dataset.share""",
    "training.sampling_temperature": "sampling_alpha mixing_temperature",
    "training.gradient_checkpointing": """use_gradient_checkpointing grad_checkpoint
        enable_activation_checkpointing activation_checkpointing""",
    "training.max_gradient_norm": """max_grad_norm max_norm clip_grad_norm clip_grad grad_clip
        gradient_clipping gradient_clip_val""",
    "training.optimizer": "optim opt optimizer_type",
    "training.optimizer.name": "training.optimizer.type",
    "training.optimizer.weight_decay": "wd",
    "training.optimizer.beta1": "adam_beta1 beta_1 betas",
    "training.optimizer.beta2": "adam_beta2 beta_2",
    "training.optimizer.epsilon": "adam_epsilon adam_eps eps",
    "training.optimizer.lora_plus_ratio":
        "loraplus_lr_ratio lora_plus_lr_ratio lora_plus loraplus use_loraplus",
    "training.save_steps": """saves_per_epoch save_every save_every_n_steps save_interval save_freq
        checkpointing_steps checkpoint_every""",
    "training.keep_checkpoints": "save_total_limit keep_last_n_checkpoints max_checkpoints",
    "evaluation": "eval evaluate validation val",
    "evaluation.split": """val_set_size val_size val_split val_split_fraction eval_split eval_size
        eval_ratio test_size validation_split split_dataset_ratio
        evaluation.size evaluation.ratio evaluation.fraction evaluation.share""",
    "evaluation.path": """test_datasets eval_dataset val_dataset test_dataset eval_file eval_path
        eval_data val_file valid_file validation_file test_file
        evaluation.dataset evaluation.file evaluation.data evaluation.rows dataset.test
        dataset.eval dataset.evaluation dataset.val dataset.valid dataset.validation""",
    "evaluation.split_name": "dataset_test_split eval_split_name test_split",
    "evaluation.every_steps": """eval_steps evals_per_epoch eval_interval eval_every eval_freq
        steps_per_eval evaluation_steps val_check_interval run_val_every_n_steps interval""",
    "evaluation.batch_size": "eval_batch_size per_device_eval_batch_size val_batch_size",
    "evaluation.patience": "early_stopping_patience early_stopping early_stopping_steps",
    "evaluation.answers": "predict_with_generate generation",
    "evaluation.answers.metric":
        "metrics compute_metrics eval_metric evaluation.answers.name evaluation.answers.type",
    "evaluation.answers.max_new_tokens":
        "eval_max_new_tokens generation_max_length generation_max_new_tokens",
    "output": "save",
    "output.dir": "output_dir out_dir save_dir save_path output_path run_dir adapter_path "
        "output.path output.name output.folder output.directory",
    "seed": "random_seed random_state data_seed global_seed",
})  # fmt: skip
"""Another tool's key → ours, or ours and its value; with a dot, in that section only."""

NOTES = _by_word({
    "evaluation rows are padded and sorted by length: their loss is the same as packed":
        "eval_packing eval_sample_packing",
    "packs are best-fit decreasing, and hardly padded: there is nothing to choose":
        "packing_strategy pad_to_sequence_len sample_packing_bin_size sample_packing_group_size",
    "`dataset.weight` or `training.sampling_temperature` mixes sources; else each row comes once":
        "mix_strategy stopping_strategy curriculum_sampling",
    "every step is written to metrics.jsonl in the run directory":
        """report_to logging_steps logging_strategy logging_first_step log_every_n_steps
        log_interval steps_per_report metric_logger logger_name plot_loss""",
    "the model's own tokenizer is used as it is": """tokenizer tokenizer_name tokenizer_type
        tokenizer_config special_tokens add_eos_token pad_token tokenizer_path""",
    "the class is read from the model's own configuration": "model_type architecture",
    "a turn is `role` and `content` (messages) or `from` and `value` (sharegpt); others cannot be "
    "renamed": """message_property_mappings message_field_role message_field_content tags
        role_tag content_tag user_tag assistant_tag role_key content_key""",
    "roles have their names: system, developer, user, assistant, tool": "roles",
    "a recipe is supervised fine-tuning: leave it out": "stage rl rlhf_type",
    "`loracli train` trains: leave it out, and write settings under `training`": "do_train train",
    "`training.warmup_ratio` is this as a share of all steps, between 0 and 1":
        "warmup_steps num_warmup_steps lr_warmup_steps warmup_iters warmup",
    "what is evaluated, and when, stands in `evaluation`": """do_eval eval_strategy
        evaluation_strategy eval_on_start val_batches do_predict test test_batches""",
    "the best adapter by evaluation loss is kept; `evaluation.answers.metric` scores answers":
        "evaluation.metric metric_for_best_model load_best_model_at_end greater_is_better",
    "a checkpoint is written every `training.save_steps` steps and at the end":
        "save_strategy save_safetensors save_only_model",
    "use the flag --overwrite of `loracli train`": "overwrite_output_dir overwrite",
    "use the flag --resume of `loracli train`": """resume resume_from_checkpoint
        auto_resume_from_checkpoints resume_adapter_file""",
    "the product of `training.batch_size` and `training.gradient_accumulation_steps`":
        "global_batch_size effective_batch_size total_batch_size",
    "a start of its own is a variant: pissa, olora, eva, corda, lora_ga, loftq":
        "init_lora_weights lora_init init_weights peft_init_lora_weights",
    "safetensors are read, pickle only where `model.allow_pickle` is true: leave it out":
        "use_safetensors",
    "`adapter.alpha` is this times `adapter.rank`": "scale lora_scale",
    "biases stay as they are: to train them is not part of this version": "bias lora_bias",
    "the seed decides the order of the rows": "shuffle dataset_shuffle shuffle_merged_datasets",
    "the devices are found, and the plan names them":
        "device device_map devices num_nodes num_processes ddp",
    "nothing is uploaded: the run directory holds the adapter":
        "push_to_hub hub_model_id hub_strategy hub_token",
    "DeepSpeed and FSDP are not part of this version": "deepspeed fsdp fsdp_config",
    "a recipe describes training: merge with `loracli merge`":
        "merge_lora export_dir merge_adapter",
})  # fmt: skip
"""Another tool's key → why a recipe has none like it, or what to do instead."""

NOTE_PREFIXES: Mapping[str, str] = {
    "wandb": NOTES["report_to"],
    "mlflow": NOTES["report_to"],
    "comet": NOTES["report_to"],
    "swanlab": NOTES["report_to"],
    "use_wandb": NOTES["report_to"],
    "fsdp_": NOTES["fsdp"],
    "hub_": NOTES["push_to_hub"],
}
