"""Documents of one row: each is read as it is alone, on every kernel, and none touches another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from lora_cli.facts.packing import packing_obstacle
from lora_cli.model.adapter import enable_gradient_checkpointing
from lora_cli.model.packed_attention import Documents, attend_by_document
from lora_cli.tasks.causal_lm import Batch, collate, collate_packed, score
from tests.helpers.packs import PACKABLE, document, tiny

CPU = torch.device("cpu")
LENGTHS = (7, 1, 13, 2, 9)
"""Longer and shorter than the windows of 5, and single tokens."""
TOLERANCE = 1e-5
KERNELS = [
    pytest.param(name, kernel, id=f"{name}-{kernel}")
    for name, kernels in PACKABLE.items()
    for kernel in kernels
]


def ready(name: str, kernel: str) -> Any:
    model = tiny(name, kernel)
    attend_by_document(model, kernel)
    return model


def pack() -> tuple[list[Any], Batch]:
    rows = [document(length, seed) for seed, length in enumerate(LENGTHS)]
    return rows, collate_packed(rows, device=CPU)


def places() -> list[tuple[int, int]]:
    ends = np.cumsum(LENGTHS).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_a_document_in_a_pack_is_read_as_it_is_alone(name: str, kernel: str) -> None:
    """Logits are equal, and no document's loss has a gradient in another's embeddings."""
    plain, model = tiny(name, kernel), ready(name, kernel)
    rows, batch = pack()
    embedded = model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, position_ids=batch.positions, use_cache=False).logits[0]
    for row, (first, end) in zip(rows, places(), strict=True):
        ids = torch.from_numpy(row.input_ids).long()[None]
        with torch.no_grad():
            alone = plain(input_ids=ids, use_cache=False).logits[0]
        own = logits[first:end]
        assert (own - alone).abs().max() <= TOLERANCE
        (gradient,) = torch.autograd.grad(own.square().sum(), embedded, retain_graph=True)
        assert gradient[0, first:end].abs().sum() > 0
        gradient[0, first:end] = 0
        assert not gradient.any(), "another document's embeddings make a difference"


@pytest.mark.parametrize("name", ["gpt_oss", "opt"])
def test_without_it_some_architectures_of_transformers_leak(name: str) -> None:
    """Why positions that restart are not enough: if this fails, transformers has mended it."""
    rows, batch = pack()
    with torch.no_grad():
        inputs = {"input_ids": batch.input_ids, "position_ids": batch.positions}
        last = tiny(name, "eager")(**inputs, use_cache=False).logits[0, -LENGTHS[-1] :]
        ids = torch.from_numpy(rows[-1].input_ids).long()[None]
        alone = tiny(name, "eager")(input_ids=ids, use_cache=False).logits[0]
    assert (last - alone).abs().max() > 0.1


@pytest.mark.parametrize(("name", "kernel"), [("llama", "sdpa"), ("gemma3", "eager")])
def test_padded_rows_are_read_as_before(name: str, kernel: str) -> None:
    rows = [document(length, length) for length in (9, 4)]
    pairs = [(row.input_ids, row.labels) for row in rows]
    batch = collate(pairs, padding_id=0, device=CPU)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    model = ready(name, kernel)
    with torch.no_grad():
        score(model, pack()[1])  # a pack before it leaves nothing behind
        assert model(**inputs).logits.equal(tiny(name, kernel)(**inputs).logits)
        prompt = {name: tensor[:1] for name, tensor in inputs.items()}
        written = [
            each.generate(**prompt, max_new_tokens=5, do_sample=False)
            for each in (model, tiny(name, kernel))
        ]
        assert written[0].equal(written[1])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize(
    ("name", "kernel"),
    [("llama", "sdpa"), ("gpt2", "eager"), ("gemma3", "sdpa"), ("opt", "sdpa")],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_an_adapter_gets_the_loss_and_gradients_of_the_rows_alone(
    name: str, kernel: str, checkpointing: bool
) -> None:
    torch.manual_seed(0)
    config = LoraConfig(
        r=4,
        target_modules="all-linear",
        init_lora_weights=False,
        fan_in_fan_out=name == "gpt2",
    )
    model = get_peft_model(tiny(name, kernel), config).train()
    rows, batch = pack()
    totals = []
    for part in (*(one_row(row) for row in rows), batch):
        if part is batch:
            attend_by_document(model, kernel)
            alone = {key: each.grad.clone() for key, each in trained(model)}
            model.zero_grad()
            if checkpointing:
                enable_gradient_checkpointing(model)
        scored = score(model, part)
        scored.loss_sum.backward()
        totals.append((float(scored.loss_sum.detach()), scored.count))
    loss, count = (sum(figures) for figures in zip(*totals[:-1], strict=True))
    assert totals[-1] == (pytest.approx(loss, rel=1e-6), count)
    assert count == sum(length - 1 for length in LENGTHS)
    for key, parameter in trained(model):
        # sums of float32 in another order: a few units in the last place of the largest
        assert (parameter.grad - alone[key]).abs().max() <= 2e-5 * alone[key].abs().max()


def one_row(row: Any) -> Batch:
    return collate([(row.input_ids, row.labels)], padding_id=0, device=CPU)


def trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in model.named_parameters() if each.requires_grad]


def test_the_kernel_never_sees_two_documents_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def noting(query: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(query.shape[2])
        assert options["attn_mask"] is None, "no square of mostly nothing"
        return kernel(query, *arguments, **options)

    model = ready("llama", "sdpa")
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noting)
    score(model, pack()[1])
    assert seen == [*LENGTHS, *LENGTHS], "in both layers"


def test_only_a_document_beyond_the_window_needs_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Documents] = []
    from lora_cli.model import packed_attention

    made = packed_attention._documents
    monkeypatch.setattr(
        packed_attention, "_documents", lambda *a: found.append(made(*a)) or made(*a)
    )
    score(ready("mistral", "sdpa"), pack()[1])
    assert found[0].mask is not None
    assert found[0].mask.shape[-1] == max(LENGTHS)
    found.clear()
    rows = [document(length, length) for length in (5, 3)]
    score(ready("mistral", "sdpa"), collate_packed(rows, device=CPU))
    assert found[0].mask is None


def _sizes(**more: Any) -> dict[str, Any]:
    heads = {"num_attention_heads": 4, "num_hidden_layers": 2}
    return {"vocab_size": 61, "hidden_size": 32, **heads, **more}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (lambda: transformers.MambaConfig(**_sizes()), "a state from token to token"),
        (lambda: transformers.BloomConfig(**_sizes()), "takes no positions"),
        (lambda: transformers.FalconConfig(**_sizes(), alibi=True), "one document at a time"),
        (lambda: transformers.DogeConfig(**_sizes()), "one document at a time"),
        (
            lambda: transformers.Lfm2Config(
                **_sizes(num_key_value_heads=2, layer_types=["conv", "full_attention"])
            ),
            "a state from token to token",
        ),
    ],
    ids=["mamba", "bloom", "falcon", "doge", "lfm2"],
)
def test_where_it_cannot_be_right_the_facts_say_why(config: Callable[[], Any], why: str) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config())
    assert why in (packing_obstacle(model) or "")


@pytest.mark.parametrize("name", PACKABLE)
def test_where_it_is_right_the_facts_say_so(name: str) -> None:
    assert packing_obstacle(tiny(name, "eager")) is None


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_flash_attention_finds_the_documents_by_itself(name: str) -> None:
    """In bfloat16, which is all it computes in: against the rows alone, to its rounding."""
    pytest.importorskip("flash_attn")
    model = tiny(name, "flash_attention_2").to("cuda", torch.bfloat16)
    rows = pack()[0]
    on_gpu = collate_packed(rows, device=torch.device("cuda"))
    assert on_gpu.positions is not None
    inputs = {"input_ids": on_gpu.input_ids, "position_ids": on_gpu.positions}
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[0]
        for row, (first, end) in zip(rows, places(), strict=True):
            ids = torch.from_numpy(row.input_ids).long()[None].cuda()
            alone = model(input_ids=ids, use_cache=False).logits[0]
            torch.testing.assert_close(logits[first:end], alone, atol=0.02, rtol=0.02)
