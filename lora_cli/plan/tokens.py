"""`adapter.trainable_tokens`: texts and ids → the ids of tokens that the model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.errors import PlanError, Problem
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.wording import shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def trained_tokens(
    loaded: LoadedRecipe, base: BaseModelFacts, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """Return the ids of the tokens to train, ascending.

    Raises:
        PlanError: what is no token of the tokenizer or the model, or stands there twice.
    """
    spec = loaded.recipe.adapter
    asked = spec.trainable_tokens if isinstance(spec, LowRankSpec) else ()
    ids: set[int] = set()
    problems: list[Problem] = []
    for index, token in enumerate(asked):
        where = loaded.source.of_value(("adapter", "trainable_tokens", index))
        found = _ids(token, tokenizer)
        if len(found) != 1:
            message = (
                f"`{shown(str(token))}` is {len(found)} tokens: {shown(_spelt(found, tokenizer))}"
            )
            hint = "name those that are to be trained, each by itself or by its id"
            problems.append(Problem(where, message, hint))
        elif found[0] >= base.vocabulary:
            message = f"token {found[0]} is not in the model's vocabulary"
            hint = f"{base.architecture} has {base.vocabulary:,} tokens, from 0"
            problems.append(Problem(where, message, hint))
        elif found[0] in ids:
            message = f"`{shown(str(token))}` is token {found[0]}, which is there already"
            problems.append(Problem(where, message, "remove one of the two"))
        ids.update(found)
    if problems:
        raise PlanError.from_problems(problems)
    return tuple(sorted(ids))


def _ids(token: int | str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that a text becomes; a token may also be spelt as in the vocabulary."""
    if isinstance(token, int):
        return [token]
    known = tokenizer.get_vocab().get(token)
    return [known] if known is not None else tokenizer.encode(token, add_special_tokens=False)


def _spelt(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids[:5])) + (" …" if len(ids) > 5 else "")
