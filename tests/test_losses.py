"""AsymmetricLoss against binary cross-entropy and its own formula; MLVPTLoss as a weighted sum."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mlvpt.errors import InputError
from mlvpt.losses import AsymmetricLoss, MLVPTLoss
from mlvpt.model import MLVPTOutput


def logits_and_targets(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, (6, 5), generator=generator)


def test_without_focusing_it_is_binary_cross_entropy():
    logits, targets = logits_and_targets()
    expected = F.binary_cross_entropy_with_logits(logits.float(), targets.float())
    torch.testing.assert_close(AsymmetricLoss(0, 0)(logits, targets), expected)


@pytest.mark.parametrize(("gamma_neg", "gamma_pos", "clip"), [(2, 0, 0), (4, 1, 0.05), (1, 2, 0.2)])
def test_value_equals_the_formula_written_out(gamma_neg, gamma_pos, clip):
    logits, targets = logits_and_targets()
    total = 0.0
    for x, y in zip(logits.flatten(), targets.flatten(), strict=True):
        p = torch.sigmoid(x)
        shifted = max(p - clip, torch.tensor(0.0))
        term = (
            (1 - p) ** gamma_pos * torch.log(p)
            if y
            else shifted**gamma_neg * torch.log(1 - shifted)
        )
        total -= term / logits.numel()
    loss = AsymmetricLoss(gamma_neg, gamma_pos, clip)(logits, targets)
    torch.testing.assert_close(loss, total.float())


def test_focal_weight_carries_no_gradient():
    logits = torch.tensor([[2.0]], requires_grad=True)
    AsymmetricLoss(gamma_neg=2)(logits, torch.tensor([[0]])).backward()
    p = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(logits.grad, (p**2 * p).view(1, 1))  # weight times d(-log(1 - p))/dx


def test_ignored_entries_change_neither_value_nor_gradient():
    logits, targets = logits_and_targets()
    masked = targets.clone()
    masked[2] = -1
    rows = [0, 1, 3, 4, 5]
    loss = AsymmetricLoss()
    torch.testing.assert_close(loss(logits, masked), loss(logits[rows], targets[rows]))
    logits.requires_grad_()
    loss(logits, masked).backward()
    assert torch.equal(logits.grad[2], torch.zeros(5, dtype=torch.float64))
    assert (masked[2] == -1).all()


def test_all_ignored_gives_zero_and_not_nan():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = AsymmetricLoss()(logits, torch.full((2, 3), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_extreme_logits_stay_finite(clip):
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    loss = AsymmetricLoss(4, 1, clip)(logits, torch.tensor([[1, 1, 0, 0]]))
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_shapes_that_differ_are_refused_with_both_shapes():
    with pytest.raises(InputError, match=r"\(2, 3\).*\(3, 2\)"):
        AsymmetricLoss()(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.parametrize("target", [0, 1])
def test_with_eps_entries_wrong_beyond_its_logit_have_no_gradient(target):
    sign = -1 if target else 1
    logits = sign * torch.tensor([[11.4, 11.5, 11.53, 40.0]])
    logits.requires_grad_()
    AsymmetricLoss(eps=1e-5)(logits, torch.full((1, 4), target)).backward()
    near, at, beyond, far = logits.grad[0]
    assert near != 0
    assert at != 0
    assert beyond == far == 0


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_eps_is_the_clamp_of_probabilities_before_the_logarithm(clip):
    logits, targets = logits_and_targets()
    logits = 4 * logits
    p = logits.sigmoid()
    shifted = (p - clip).clamp(min=0)
    logs = torch.where(targets == 1, p.clamp(min=1e-5).log(), (1 - shifted).clamp(min=1e-5).log())
    weight = torch.where(targets == 1, 1.0, shifted**2)
    expected = -(weight * logs).mean().float()
    torch.testing.assert_close(AsymmetricLoss(clip=clip, eps=1e-5)(logits, targets), expected)


def test_eps_zero_is_the_formula_to_the_bit():
    logits, targets = logits_and_targets()
    assert torch.equal(AsymmetricLoss()(logits, targets), AsymmetricLoss(eps=0)(logits, targets))


@pytest.mark.parametrize(
    "options", [{"gamma_neg": -1}, {"gamma_pos": -1}, {"clip": 1.0}, {"eps": 1.0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="gammas >= 0"):
        AsymmetricLoss(**options)


def output(seed: int = 0) -> tuple[MLVPTOutput, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, 3, generator=generator)
    return MLVPTOutput(*logits), torch.randint(0, 2, (4, 3), generator=generator)


def test_total_is_the_sum_over_the_four_trained_logits_and_not_the_fused_one():
    out, targets = output()
    loss = AsymmetricLoss()
    branches = (out.co_logits, out.dc_logits, out.co_gate_logits, out.dc_gate_logits)
    torch.testing.assert_close(MLVPTLoss()(out, targets), sum(loss(x, targets) for x in branches))


def test_weights_scale_their_terms():
    out, targets = output()
    loss = MLVPTLoss(co=2, dc=0, co_gate=0, dc_gate=0, fused=3)
    one = AsymmetricLoss()
    torch.testing.assert_close(
        loss(out, targets), 2 * one(out.co_logits, targets) + 3 * one(out.logits, targets)
    )


def test_an_output_with_only_logits_is_scored_on_them():
    out, targets = output()
    only = MLVPTOutput(out.logits)
    for loss in (MLVPTLoss(), MLVPTLoss(fused=0.5)):
        torch.testing.assert_close(loss(only, targets), AsymmetricLoss()(out.logits, targets))


def test_weights_that_leave_nothing_to_train_are_refused():
    out, targets = output()
    with pytest.raises(InputError, match="weight 0"):
        MLVPTLoss(co=0, dc=0, co_gate=0, dc_gate=0)(out, targets)


@pytest.mark.parametrize("value", [0.3, float("nan"), 2, -2, float("inf"), 1.0001])
@pytest.mark.parametrize("loss", [AsymmetricLoss(), AsymmetricLoss(0, 0), MLVPTLoss()])
def test_a_target_that_is_neither_present_absent_nor_unknown_is_refused(value, loss):
    targets = torch.tensor([[1.0, 0.0, -1.0], [0.0, value, 1.0]])
    logits = torch.zeros(2, 3)
    with pytest.raises(InputError, match="Targets must be 1, 0 or -1"):
        loss(SimpleNamespace(logits=logits) if isinstance(loss, MLVPTLoss) else logits, targets)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64, torch.float64])
def test_targets_may_be_of_any_type(dtype):
    targets = torch.tensor([[1, 0, 1]])
    loss = AsymmetricLoss()
    assert loss(torch.ones(1, 3), targets.to(dtype)) == loss(torch.ones(1, 3), targets)


@pytest.mark.parametrize("targets", [None, [[1, 0]], np.ones((1, 2))])
def test_targets_that_are_no_tensor_are_refused(targets):
    with pytest.raises(InputError, match="Targets must be a tensor"):
        AsymmetricLoss()(torch.zeros(1, 2), targets)


def test_the_loss_refuses_logits_without_a_model():
    with pytest.raises(InputError, match="output of a model"):
        MLVPTLoss()(torch.zeros(1, 2), torch.zeros(1, 2))
