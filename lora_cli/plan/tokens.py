"""`adapter.trainable_tokens`: texts and ids → the ids of tokens that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
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
    ids: list[int] = []
    problems: list[Problem] = []
    for index, token in enumerate(asked):
        found = _ids(token, tokenizer)
        fault = _not_one(token, found, tokenizer) or _untrainable(token, found[0], ids, base)
        if fault:
            where = loaded.source.of_value(("adapter", "trainable_tokens", index))
            problems.append(Problem(where, *fault))
        ids += found
    if problems:
        raise PlanError.from_problems(problems)
    return tuple(sorted(ids))


def _not_one(
    token: int | str, found: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str] | None:
    """Return message and hint for a text that is not one token; None if it is."""
    if len(found) == 1:
        return None
    spelt = " ".join(tokenizer.convert_ids_to_tokens(list(found[:5]))) + " …" * (len(found) > 5)
    message = f"`{shown(str(token))}` is {len(found)} tokens: {shown(spelt)}"
    return message, "name those that are to be trained, each by itself or by its id"


def _untrainable(
    token: int | str, token_id: int, earlier: Sequence[int], base: BaseModelFacts
) -> tuple[str, str] | None:
    """Return message and hint for a token that cannot be trained; None if it can."""
    if token_id >= base.vocabulary:
        message = f"token {token_id} is not in the model's vocabulary"
        return message, f"{base.architecture} has {base.vocabulary:,} tokens, from 0"
    if token_id in earlier:
        message = f"`{shown(str(token))}` is token {token_id}, which is there already"
        return message, "remove one of the two"
    if token_id == base.padding_token and not base.tied_embeddings:
        message = f"token {token_id} is the model's padding, whose embedding gets no gradient"
        return message, "give the model's config.json another `pad_token_id`, or leave it out"
    return None


def _ids(token: int | str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that a text becomes; a token may also be spelt as in the vocabulary."""
    if isinstance(token, int):
        return [token]
    known = tokenizer.get_vocab().get(token)
    return [known] if known is not None else tokenizer.encode(token, add_special_tokens=False)
