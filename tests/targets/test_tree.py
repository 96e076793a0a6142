"""The module tree, with what is alike folded."""

from __future__ import annotations

from lora_cli.targets.tree import Branch, tree_of
from tests.helpers.architectures import model_of


def child(branch: Branch, *names: str) -> Branch:
    for name in names:
        (branch,) = [each for each in branch.children if each.name == name]
    return branch


def test_layers_that_are_alike_are_one() -> None:
    model, _ = model_of("llama")
    tree = tree_of(model)
    assert tree.kind == "LlamaForCausalLM"
    assert tree.parameters == model.num_parameters()
    layers = child(tree, "model", "layers", "0-1")
    assert (layers.kind, layers.count) == ("LlamaDecoderLayer", 2)
    assert child(layers, "self_attn", "q_proj").shape == (32, 32)


def test_layers_that_are_not_alike_are_two() -> None:
    model, _ = model_of("deepseek_v3")
    layers = child(tree_of(model), "model", "layers")
    assert [(each.name, each.count) for each in layers.children] == [("0", 1), ("1", 1)]
    assert sum(each.parameters for each in layers.children) == layers.parameters


def test_a_tied_weight_counts_once() -> None:
    model, _ = model_of("gpt2")
    tree = tree_of(model)
    assert child(tree, "lm_head").parameters == model.lm_head.weight.numel()
    assert tree.parameters == model.num_parameters()
