"""4-bit and 8-bit bases through bitsandbytes, on CUDA and on CPU.

NF4, FP4 and double quantization: Dettmers et al. 2023, arXiv 2305.14314, section 3.
int8: Dettmers et al. 2022, arXiv 2208.07339.

The head is never quantized. transformers leaves it out by itself, but only where no module is named
to be left out, and not every kind of head: so all are named, and none is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lora_cli.section import Section

if TYPE_CHECKING:
    import torch

Name = Annotated[str, Field(min_length=1)]


def held_in(config: Mapping[str, Any]) -> FourBit | EightBit | None:
    """Return how weights lie in files whose config has this `quantization_config`.

    None: not quantized, or in a way that is not bitsandbytes'.
    """
    if config.get("load_in_8bit"):
        return EightBit(method="int8")
    method = config.get("bnb_4bit_quant_type")
    if not config.get("load_in_4bit") or method not in ("nf4", "fp4"):
        return None
    fields = {
        "method": method,
        "double_quantization": bool(config.get("bnb_4bit_use_double_quant")),
        "compute_dtype": str(config.get("bnb_4bit_compute_dtype", "float32")),
    }
    return FourBit.model_validate(fields)


class Quantized(Section):
    """Fields shared by the quantizations of bitsandbytes."""

    main_field = "method"

    method: str
    """How weights are held."""
    full_precision_modules: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    """Modules that are not quantized, with all inside them: last names or the ends of full names,
    such as `o_proj` or `layers.0`. The output head never is."""

    def keeps(self, module: str) -> bool:
        """Return whether the recipe keeps the module of this full name in full precision."""
        return any(is_inside(module, name) for name in self.full_precision_modules)

    def skipped(self, heads: Sequence[str]) -> list[str] | None:
        """Return what transformers takes for `llm_int8_skip_modules`; None leaves it the choice.

        That is for 4 bits too, in spite of its name.
        """
        return [*map(_pattern, self.full_precision_modules), *heads] or None


def is_inside(module: str, name: str) -> bool:
    """Return whether the module of this full name is called `name`, or stands inside one that is.

    Of a module called `a.b.c`, the names are `c`, `b.c` and `a.b.c`.
    """
    return f".{name}." in f".{module}."


def _pattern(name: str) -> str:
    """Return what `is_inside` looks for, as an expression that transformers matches from the start.

    The bare name would be taken for the end of one: `proj` for that of `o_proj`.
    """
    return rf"(.*\.)?{re.escape(name)}(\.|$)"


class FourBit(Quantized):
    """Each linear weight in 4 bits with a scale per block of 64; dequantised when used."""

    method: Literal["nf4", "fp4"]
    """`nf4` (normal float, the better one for trained weights) or `fp4`."""
    double_quantization: bool = True
    """Quantize the blocks' scales too: about 0.4 bits a parameter less."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the weights are dequantised to for a product; `auto` is the model's dtype."""

    def settled(self, dtype: str) -> FourBit:
        """Return it with its dtype for products filled in: by default the model's."""
        if self.compute_dtype != "auto":
            return self
        return self.model_copy(update={"compute_dtype": dtype})

    def load_kwargs(self, dtype: torch.dtype, heads: Sequence[str] = ()) -> dict[str, Any]:
        """Return what `from_pretrained` needs to quantize all but `heads` as it reads weights."""
        import torch
        from transformers import BitsAndBytesConfig

        compute = dtype if self.compute_dtype == "auto" else getattr(torch, self.compute_dtype)
        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.method,
                bnb_4bit_use_double_quant=self.double_quantization,
                bnb_4bit_compute_dtype=compute,
                llm_int8_skip_modules=self.skipped(heads),
            )
        }

    def requantized(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what is left, in float32, of an (out, in) weight in the dtype of the base."""
        from bitsandbytes import functional

        packed, state = functional.quantize_4bit(
            weight.contiguous(),
            quant_type=self.method,
            compress_statistics=self.double_quantization,
        )
        kept: torch.Tensor = functional.dequantize_4bit(packed, state)
        return kept.float()

    def after_load(self, model: torch.nn.Module) -> None:
        """Keep the weights in the layout that has a backward.

        On CPUs with AVX512-BF16, a forward without gradients repacks a 4-bit weight in place for
        a kernel that has none: training after the first evaluation would lose its gradients.
        """
        from bitsandbytes.nn import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False


class EightBit(Quantized):
    """Each linear weight in int8 with a scale per row; outlier columns are computed apart."""

    method: Literal["int8"]
    """8-bit integers."""

    def settled(self, _dtype: str) -> EightBit:
        """Return it as it is: nothing is left open."""
        return self

    def load_kwargs(self, _dtype: torch.dtype, heads: Sequence[str] = ()) -> dict[str, Any]:
        """Return what `from_pretrained` needs to quantize all but `heads` as it reads weights."""
        from transformers import BitsAndBytesConfig

        skipped = self.skipped(heads)
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
        return {"quantization_config": config}

    def requantized(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what is left, in float32, of an (out, in) weight in the dtype of the base."""
        from bitsandbytes import functional

        packed, scale, _outliers = functional.int8_vectorwise_quant(weight.half().contiguous())
        kept: torch.Tensor = functional.int8_vectorwise_dequant(packed, scale)
        return kept.float()

    def after_load(self, model: torch.nn.Module) -> None:
        """Let each layer keep its scales when its weight is replaced.

        On a CPU, peft's DoRA puts a copy of the weight in its place after every product. The copy
        comes without the scales, which the layer took over at its first product, and at the next
        one the layer would take over none.
        """
        from bitsandbytes.nn import Linear8bitLt

        for module in model.modules():
            if isinstance(module, Linear8bitLt):
                module.register_forward_pre_hook(_give_scales_back)


def _give_scales_back(layer: Any, _inputs: tuple[Any, ...]) -> None:
    """Give the weight the scales that the layer holds, if it is about to ask the weight for them.

    A weight whose `CB` is set makes the layer take over `CB` and `SCB` (the scales) from it.
    """
    if layer.weight.CB is not None and layer.weight.SCB is None:
        layer.weight.SCB = layer.state.SCB
