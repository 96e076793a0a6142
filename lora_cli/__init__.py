"""loracli: one YAML recipe becomes a run plan, the plan becomes a LoRA adapter."""

__version__ = "0.1.0"
