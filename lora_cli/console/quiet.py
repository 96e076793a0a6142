"""Keeps the libraries' own bars and notices out of loracli's output; errors still come through."""

from __future__ import annotations

import logging
import os
import warnings

from lora_cli.facts.libraries import import_libraries


def quiet_libraries() -> None:
    """Turn off progress bars and notices of the libraries that are about to be imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("bitsandbytes", "transformers", "accelerate", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft)\b")


def quiet_bars() -> None:
    """Turn off transformers' loading bars; imports transformers, so only once work begins."""
    import_libraries()
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
