"""LoRA-FA: A stays, and of all steps of B the one nearest to the full gradient's is taken."""

from __future__ import annotations

import pytest
import torch

from lora_cli.optimizers.adamw import AdamW
from lora_cli.optimizers.lora_fa import LoraFa
from tests.helpers.optimizers import pair_of

RANK, SIZE = 3, 5


def pair() -> tuple[dict[str, torch.nn.Parameter], torch.nn.Parameter, torch.nn.Parameter]:
    torch.manual_seed(0)
    parameters = pair_of("q_proj", RANK, SIZE)
    a, b = parameters.values()
    return parameters, a, b


def test_a_is_frozen_and_in_no_group() -> None:
    parameters, a, b = pair()
    start = a.detach().clone()
    optimizer = LoraFa(name="lora_fa", weight_decay=0.5).build(parameters, learning_rate=0.1)
    assert not a.requires_grad
    assert [group["params"] for group in optimizer.param_groups] == [[b]]
    b.grad = torch.ones_like(b)
    optimizer.step()
    assert a.equal(start)
    assert b.abs().min() > 0


@pytest.mark.parametrize("scaling", [1.0, 2.0])
def test_the_corrected_step_is_the_nearest_to_the_full_gradient(scaling: float) -> None:
    """Least squares over all g says which s·g·A is nearest to G; ours is it up to 1/s²."""
    parameters, a, b = pair()
    full = torch.randn(SIZE, SIZE)
    optimizer = LoraFa(name="lora_fa").build(parameters, learning_rate=0.1)
    b.grad = scaling * full @ a.T
    optimizer.step()
    nearest = torch.linalg.lstsq(scaling * a.T, full.T).solution.T
    torch.testing.assert_close(b.grad, scaling**2 * nearest, rtol=1e-4, atol=1e-5)


def test_the_step_is_adamws_with_the_corrected_gradient() -> None:
    parameters, a, b = pair()
    twin = torch.nn.Parameter(torch.zeros_like(b))
    values = {"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
    ours = LoraFa(name="lora_fa", **values).build(parameters, learning_rate=0.05)
    theirs = AdamW(**values).build({"twin": twin}, learning_rate=0.05)
    correction = torch.linalg.inv(a.detach() @ a.detach().T)
    for _ in range(3):
        gradient = torch.randn_like(b)
        b.grad, twin.grad = gradient.clone(), gradient @ correction
        ours.step()
        theirs.step()
    torch.testing.assert_close(b, twin, rtol=1e-4, atol=1e-5)


def test_an_a_of_less_than_full_rank_leaves_finite_steps() -> None:
    parameters, a, b = pair()
    with torch.no_grad():
        a[1] = a[0]
    optimizer = LoraFa(name="lora_fa").build(parameters, learning_rate=0.1)
    b.grad = torch.randn(SIZE, SIZE) @ a.T
    optimizer.step()
    assert b.isfinite().all()
    assert b.grad.abs().max() < 100


def test_what_is_no_pair_is_trained_as_it_is() -> None:
    parameters, _a, _b = pair()
    whole = torch.nn.Parameter(torch.ones(2))
    optimizer = LoraFa(name="lora_fa").build({**parameters, "head": whole}, learning_rate=0.1)
    whole.grad = torch.ones(2)
    optimizer.step()
    assert whole.grad.tolist() == [1.0, 1.0]
    assert whole.tolist() == pytest.approx([0.9, 0.9])


def test_a_pair_in_bfloat16_is_corrected_in_float32() -> None:
    """To one rounding of the gradient, where a rounded correction would add its own."""
    parameters = {name: torch.nn.Parameter(each.bfloat16()) for name, each in pair()[0].items()}
    a, b = parameters.values()
    optimizer = LoraFa(name="lora_fa").build(parameters, learning_rate=0.1)
    gradient = torch.randn(SIZE, RANK).bfloat16()
    b.grad = gradient.clone()
    optimizer.step()
    wide = a.detach().double()
    exact = gradient.double() @ torch.linalg.inv(wide @ wide.T)
    torch.testing.assert_close(b.grad.double(), exact, rtol=2**-8, atol=0)
