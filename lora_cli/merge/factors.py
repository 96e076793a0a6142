"""Adapters whose ΔW is a product of small rank by their own making: (A, B) from their tensors.

No weight of the base is read; VeRA and MiSS need the sizes of its layers, which its config gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.variant import Factors
from lora_cli.errors import MergeError, PlanError
from lora_cli.facts.base_model import probe_base_model
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.facts.model_source import ModelSource
from lora_cli.merge.adapter_config import AdapterConfig, beside_pairs
from lora_cli.merge.adapter_folder import PREFIX, TENSORS, pairs_of
from lora_cli.tasks import TASKS

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

ADALORA_EPSILON = 1e-5
"""peft divides AdaLoRA's scaling by the rank plus this."""


def factors_of(
    config: AdapterConfig, tensors: Tensors, find_base: Callable[[], ModelSource]
) -> dict[str, Factors] | None:
    """Return each module's pair with its scaling in B, or None where the method has no such pair.

    Raises:
        MergeError: a tensor is left over, or does not fit the base or its partner.
    """
    if config.kind == "LORA":
        return _lora(config, tensors) if not beside_pairs(config) else None
    if config.kind == "ADALORA":
        return _adalora(config, tensors)
    if config.kind == "VERA":
        return _vera(config, tensors, _linears(find_base(), config.task))
    if config.kind == "MISS" and config.settings.get("init_weights") != "bat":
        return _miss(config, tensors, _linears(find_base(), config.task))
    if config.kind == "LOHA" and not _has_patterns(config):
        return _loha(config, tensors)
    return None


def _has_patterns(config: AdapterConfig) -> bool:
    return any(config.settings.get(name) for name in ("rank_pattern", "alpha_pattern"))


def _lora(config: AdapterConfig, tensors: Tensors) -> dict[str, Factors]:
    return {
        module: Factors(update.lora_a.float(), update.lora_b.float() * update.scaling)
        for module, update in pairs_of(tensors, config).items()
    }


def _adalora(config: AdapterConfig, tensors: Tensors) -> dict[str, Factors]:
    """Return A = diag(E)·P and s·B for the ranks that were kept: those with E ≠ 0.

    s = alpha / the rank at the start, whatever was pruned since. Zhang et al. 2023, arXiv
    2303.10512, equation 3.
    """
    parts = _Parts(config, tensors, ("lora_A", "lora_B", "lora_E"))
    alpha, rank = config.number("lora_alpha"), config.number("init_r")
    pairs = {}
    for module in parts.modules:
        lora_a, lora_b, values = (parts.of(module, name) for name in parts.names)
        parts.check(module, values.shape == (len(lora_a), 1) and lora_b.shape[-1] == len(lora_a))
        kept = values.flatten() != 0
        scaled = lora_b * (alpha / (rank + ADALORA_EPSILON))
        pairs[module] = Factors((lora_a * values)[kept], scaled[:, kept])
    return pairs


def _vera(
    config: AdapterConfig, tensors: Tensors, linears: Mapping[str, LinearFacts]
) -> dict[str, Factors]:
    """Return diag(d)·A and diag(b)·B, cut out of the shared A and B.

    Kopiczko et al. 2023, arXiv 2310.11454, equation 2.
    """
    shared = "base_model.vera_A", "base_model.vera_B"
    if not tensors.keys() >= set(shared):
        message = "VeRA's shared projections were not saved with it, and a seed may not repeat them"
        hint = "save it from peft with `save_projection=True`"
        raise MergeError(message, str(config.path.parent / TENSORS), hint)
    down, up = (tensors[name].float() for name in shared)
    parts = _Parts(config, tensors, ("vera_lambda_b", "vera_lambda_d"), also=shared)
    pairs = {}
    for module in parts.modules:
        out_scale, rank_scale = (parts.of(module, name) for name in parts.names)
        layer = parts.layer(module, linears)
        fits = len(rank_scale) == len(down) == up.shape[1] and len(out_scale) == layer.out_features
        cover = down.shape[1] >= layer.in_features and len(up) >= layer.out_features
        parts.check(module, fits and cover)
        pairs[module] = Factors(
            rank_scale[:, None] * down[:, : layer.in_features],
            out_scale[:, None] * up[: layer.out_features],
        )
    return pairs


def _miss(
    config: AdapterConfig, tensors: Tensors, linears: Mapping[str, LinearFacts]
) -> dict[str, Factors]:
    """Return the pair of y += Dᵀ·s, s_i the sum of the inputs x_j with j mod r = i: exact at r.

    So A[i, j] = 1 where j mod r = i, and B = Dᵀ; the `mini` form repeats a narrower D. Kang and
    Yin 2024, arXiv 2409.15371, section 3.
    """
    import torch

    parts = _Parts(config, tensors, ("miss_block",))
    pairs = {}
    for module in parts.modules:
        block, layer = parts.of(module, "miss_block"), parts.layer(module, linears)
        fits = block.ndim == 2 and block.shape[1] > 0 and layer.out_features % block.shape[1] == 0
        parts.check(module, fits)
        rows = torch.arange(len(block))[:, None]
        columns = torch.arange(layer.in_features)[None, :]
        repeats = layer.out_features // block.shape[1]
        pairs[module] = Factors((columns % len(block) == rows).float(), block.repeat(1, repeats).T)
    return pairs


def _loha(config: AdapterConfig, tensors: Tensors) -> dict[str, Factors]:
    """Return the pair of (B₁·A₁) ⊙ (B₂·A₂): products of each column of B₁ with each of B₂, and A's.

    So the rank is the square of LoHa's. Hyeon-Woo et al. 2021, arXiv 2108.06098, proposition 1.
    """
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    parts = _Parts(config, tensors, names)
    scaling = config.number("alpha") / config.number("r")
    pairs = {}
    for module in parts.modules:
        b1, a1, b2, a2 = (parts.of(module, name) for name in names)
        same = b1.shape == b2.shape and a1.shape == a2.shape
        parts.check(module, same and b1.ndim == a1.ndim == 2 and b1.shape[1] == len(a1))
        lora_a = (a1[:, None] * a2[None]).flatten(0, 1)
        lora_b = (b1[:, :, None] * b2[:, None]).flatten(1)
        pairs[module] = Factors(lora_a, lora_b * scaling)
    return pairs


def _linears(source: ModelSource, task: str | None) -> dict[str, LinearFacts]:
    name = next((name for name, each in TASKS.items() if each.peft_task == task), "causal_lm")
    spec: Any = TASKS[name](name=name)
    try:
        facts = probe_base_model(source, spec, trust_remote_code=False)
    except PlanError as error:
        raise MergeError.from_problems(error.problems) from error
    return {linear.name: linear for linear in facts.linears}


class _Parts:
    """An adapter's tensors, `names` of each module; any other one is an error."""

    def __init__(
        self,
        config: AdapterConfig,
        tensors: Tensors,
        names: tuple[str, ...],
        also: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self._tensors = tensors
        self._file = str(config.path.parent / TENSORS)
        suffix = f".{names[0]}"
        self.modules = sorted(
            name.removeprefix(PREFIX).removesuffix(suffix)
            for name in tensors
            if name.startswith(PREFIX) and name.endswith(suffix)
        )
        due = {f"{PREFIX}{module}.{name}" for module in self.modules for name in names}
        odd = sorted(tensors.keys() ^ (due | set(also)))
        if odd:
            state = "would be lost" if odd[0] in tensors else "is missing"
            raise MergeError(f"`{odd[0]}` {state}", self._file)
        if not self.modules:
            raise MergeError(f"holds no {names[0]}", self._file)

    def of(self, module: str, name: str) -> torch.Tensor:
        """Return one tensor in float32."""
        return self._tensors[f"{PREFIX}{module}.{name}"].float()

    def layer(self, module: str, linears: Mapping[str, LinearFacts]) -> LinearFacts:
        """Return the base's layer of that name."""
        if module not in linears:
            raise MergeError(f"the base has no linear layer `{module}`", self._file)
        return linears[module]

    def check(self, module: str, fits: bool) -> None:
        """Raise an error unless the tensors of a module fit together, and the base."""
        if not fits:
            shapes = ", ".join(
                f"{name} {tuple(self.of(module, name).shape)}" for name in self.names
            )
            message = f"the tensors of `{module}` do not fit: {shapes}"
            raise MergeError(message, self._file, "is this the right base?")
