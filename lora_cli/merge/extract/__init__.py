"""A fully tuned checkpoint and its base → a LoRA."""
