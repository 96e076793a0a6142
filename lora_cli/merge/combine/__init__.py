"""Several adapters of one base → one LoRA."""
