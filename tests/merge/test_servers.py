"""What is said of the servers: their own rules, as they were read."""

from __future__ import annotations

import shlex

import pytest

from lora_cli.merge.servers import Server, ServingFacts, servers_for


def server(name: str, facts: ServingFacts) -> Server:
    found = servers_for(base="owner/model", adapter="served/it", facts=facts)
    assert [each.name for each in found] == ["peft", "vLLM", "llama.cpp"]
    assert all(bool(each.use) is not bool(each.why_not) for each in found)
    return next(each for each in found if each.name == name)


@pytest.mark.parametrize(
    ("rank", "flag"),
    [(1, 1), (2, 8), (8, 8), (9, 16), (100, 128), (257, 320), (321, 512), (512, 512)],
)
def test_vllm_gets_the_smallest_rank_that_it_takes(rank: int, flag: int) -> None:
    assert server("vLLM", ServingFacts(rank)).use == (
        f"vllm serve owner/model --enable-lora --max-lora-rank {flag} "
        "--lora-modules tuned=served/it"
    )


def test_vllm_is_told_to_quantize_a_base_that_was_quantized() -> None:
    flag = "vllm serve owner/model --quantization bitsandbytes --enable-lora"
    assert server("vLLM", ServingFacts(8, quantization="nf4")).use.startswith(flag)
    saved_so = ServingFacts(8, quantization="nf4", own_base=True)
    assert "--quantization" not in server("vLLM", saved_so).use


def test_a_rank_beyond_vllms_is_said_with_what_to_do() -> None:
    assert "highest rank is 512: export again with a lower --rank" in (
        server("vLLM", ServingFacts(513)).why_not
    )


@pytest.mark.parametrize(
    ("facts", "vllm", "llama_cpp"),
    [
        (ServingFacts(8), "", ""),
        (ServingFacts(8, input_by_output=True), "GPT-2's kind", "transposes weights"),
        (ServingFacts(8, experts=True), "holds experts fused", ""),
        (ServingFacts(8, quantization="nf4"), "", "holds no base in nf4"),
        (
            ServingFacts(8, quantization="nf4", double_quantization=False),
            "it quantizes a model to nf4, doubly, as it loads it: this one was in nf4 without",
            "holds no base in nf4",
        ),
        (ServingFacts(8, quantization="int8"), "this one was in int8", "holds no base in int8"),
        (ServingFacts(8, quantization="int8", own_base=True), "", "holds no base in int8"),
    ],
)
def test_each_refusal_has_its_reason(facts: ServingFacts, vllm: str, llama_cpp: str) -> None:
    for name, reason in (("vLLM", vllm), ("llama.cpp", llama_cpp)):
        assert reason in server(name, facts).why_not
        assert bool(server(name, facts).why_not) is bool(reason)
    assert server("peft", facts).use == 'PeftModel.from_pretrained(base, "served/it")'


def test_llama_cpp_needs_the_bases_config() -> None:
    line = "python convert_lora_to_gguf.py served/it --base owner/model"
    assert server("llama.cpp", ServingFacts(600)).use == line


def test_commands_can_be_copied_to_a_shell_whatever_the_folders_are_called() -> None:
    found = servers_for(base="my base", adapter="it's served", facts=ServingFacts(8))
    uses = {each.name: shlex.split(each.use) for each in found if each.name != "peft"}
    assert uses["vLLM"][2] == "my base"
    assert uses["vLLM"][-1] == "tuned=it's served"
