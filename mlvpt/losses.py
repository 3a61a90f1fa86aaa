"""Asymmetric loss, and its sum over the branches of ML-VPT."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvpt.errors import InputError

BRANCHES = ("co", "dc", "co_gate", "dc_gate")


class AsymmetricLoss(nn.Module):
    """Binary cross-entropy that focuses harder on negatives than on positives.

    With p = sigmoid(logit) and the shifted p_m = max(p - clip, 0):

        positives: (1 - p)^gamma_pos * -log p
        negatives: p_m^gamma_neg * -log(1 - p_m)

    averaged over all entries whose target is not -1. The focal weights carry no gradient, as in
    the reference implementation. Both gammas 0 and clip 0 give plain binary cross-entropy.

    Args:
        gamma_neg: focusing of negatives, >= 0. Default 2, the official ML-VPT release.
        gamma_pos: focusing of positives, >= 0. Default 0, same source.
        clip: probability margin in [0, 1) below which a negative costs nothing. Default 0, same.
        eps: probabilities are clamped to eps or more before their logarithm, in [0, 1). The
            official release takes 1e-5: an entry that is wrong by a logit beyond 11.51 costs 11.51
            and has no gradient. Default 0, the formula.

    Shape:
        logits (B, K) and targets (B, K) in {1, 0, -1} -> scalar. Computed in float32.

    Raises:
        InputError: other shapes, or, on the CPU, other targets; on a GPU those make the loss NaN.

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021. The
    official ML-VPT release sums over entries, divides by B * K and multiplies by 1000, a factor
    that AdamW cancels.

    Example:
        >>> loss = AsymmetricLoss(gamma_neg=0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([[1, 0]])).item(), 4)  # log 2
        0.6931
    """

    def __init__(
        self, gamma_neg: float = 2.0, gamma_pos: float = 0.0, clip: float = 0.0, eps: float = 0.0
    ) -> None:
        super().__init__()
        if gamma_neg < 0 or gamma_pos < 0 or not (0 <= clip < 1 and 0 <= eps < 1):
            raise InputError(
                "AsymmetricLoss needs gammas >= 0, and clip and eps in [0, 1), "
                f"not {gamma_neg}, {gamma_pos}, {clip}, {eps}."
            )
        self.gamma_neg, self.gamma_pos, self.clip, self.eps = gamma_neg, gamma_pos, clip, eps

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not isinstance(targets, Tensor):
            raise InputError(
                f"Targets must be a tensor (B, K), but are a {type(targets).__name__}."
            )
        if logits.shape != targets.shape:
            raise InputError(
                f"Logits of shape {tuple(logits.shape)} and targets of shape "
                f"{tuple(targets.shape)}: both must be (images, classes)."
            )
        logits = logits.float()
        positive, known = targets == 1, targets != -1
        valid = (positive | ~known | (targets == 0)).all()
        if logits.device.type != "cpu":
            # asking a GPU would make every step wait for it: there, the loss becomes NaN instead
            logits = torch.where(valid, logits, torch.nan)
        elif not valid:
            raise InputError("Targets must be 1, 0 or -1 (unknown): 0.3, NaN and others are not.")
        log_p = F.logsigmoid(logits)
        if self.clip:
            shifted = (logits.sigmoid() - self.clip).clamp(min=0)
            log_not_p = torch.log1p(-shifted)
        else:
            log_not_p = F.logsigmoid(-logits)  # exact where 1 - p would round to 0
        with torch.no_grad():
            miss = torch.where(positive, 1 - log_p.exp(), 1 - log_not_p.exp())
            gamma = torch.where(positive, self.gamma_pos, self.gamma_neg)
            weight = miss.clamp(min=0).pow(gamma) * known
        logs = torch.where(positive, log_p, log_not_p)
        if self.eps:
            logs = logs.clamp(min=math.log(self.eps))  # the logarithm of a clamped probability
        losses = -weight * logs
        return losses.sum() / known.sum().clamp(min=1)

    def extra_repr(self) -> str:
        names = ("gamma_neg", "gamma_pos", "clip", "eps")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MLVPTLoss(nn.Module):
    """Weighted sum of one loss over the logits of ML-VPT.

    Args:
        loss: the loss of one set of logits; an AsymmetricLoss with its defaults if None.
        co, dc, co_gate, dc_gate: weights of the four trained logits, 1 each in the paper.
        fused: weight of the loss on the prediction itself, the mean of both branches. 0 in the
            official release, which never trains it.

    An output that has only `logits`, as the baselines give, is scored on those alone, with
    weight 1.

    Raises:
        InputError: when called, if all weights of the logits that the output has are 0.
    """

    def __init__(
        self,
        loss: nn.Module | None = None,
        *,
        co: float = 1.0,
        dc: float = 1.0,
        co_gate: float = 1.0,
        dc_gate: float = 1.0,
        fused: float = 0.0,
    ) -> None:
        super().__init__()
        self.loss = AsymmetricLoss() if loss is None else loss
        self.weights = {"co": co, "dc": dc, "co_gate": co_gate, "dc_gate": dc_gate, "fused": fused}

    def forward(self, output, targets: Tensor) -> Tensor:
        terms = self.terms(output, targets)
        return sum(self.weights.get(name, 1.0) * value for name, value in terms.items())

    def terms(self, output, targets: Tensor) -> dict[str, Tensor]:
        """The unweighted loss of every logit with a weight, by branch name."""
        branches = {name: getattr(output, f"{name}_logits", None) for name in BRANCHES}
        if not isinstance(getattr(output, "logits", None), Tensor):
            raise InputError(
                f"The loss takes the output of a model, with logits, not a {type(output).__name__}."
            )
        if all(x is None for x in branches.values()):  # a baseline: one set of logits
            return {"logits": self.loss(output.logits, targets)}
        logits = {**branches, "fused": output.logits}
        trained = {n: x for n, x in logits.items() if x is not None and self.weights[n] != 0}
        if not trained:
            raise InputError("All logits of the model have weight 0 in the loss: train one.")
        return {name: self.loss(x, targets) for name, x in trained.items()}
