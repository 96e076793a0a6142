"""4-bit and 8-bit bases through bitsandbytes, on CUDA and on CPU.

NF4, FP4 and double quantization: Dettmers et al. 2023, arXiv 2305.14314, section 3.
int8: Dettmers et al. 2022, arXiv 2208.07339.

No module is named to be left out: the library then leaves out the output head, whatever its name
is, and all that is tied to it; naming any would replace that list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lora_cli.section import Section

if TYPE_CHECKING:
    import torch


class FourBit(Section):
    """Each linear weight in 4 bits with a scale per block of 64; dequantised when used."""

    main_field = "method"

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

    def load_kwargs(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return what `from_pretrained` needs to quantize the weights as it reads them."""
        import torch
        from transformers import BitsAndBytesConfig

        compute = dtype if self.compute_dtype == "auto" else getattr(torch, self.compute_dtype)
        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.method,
                bnb_4bit_use_double_quant=self.double_quantization,
                bnb_4bit_compute_dtype=compute,
            )
        }

    def after_load(self, model: torch.nn.Module) -> None:
        """Keep the weights in the layout that has a backward.

        On CPUs with AVX512-BF16, a forward without gradients repacks a 4-bit weight in place for
        a kernel that has none: training after the first evaluation would lose its gradients.
        """
        from bitsandbytes.nn import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False


class EightBit(Section):
    """Each linear weight in int8 with a scale per row; outlier columns are computed apart."""

    main_field = "method"

    method: Literal["int8"]
    """8-bit integers."""

    def settled(self, _dtype: str) -> EightBit:
        """Return it as it is: nothing is left open."""
        return self

    def load_kwargs(self, _dtype: torch.dtype) -> dict[str, Any]:
        """Return what `from_pretrained` needs to quantize the weights as it reads them."""
        from transformers import BitsAndBytesConfig

        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}

    def after_load(self, _model: torch.nn.Module) -> None:
        """Do nothing: int8 layers keep one layout."""
