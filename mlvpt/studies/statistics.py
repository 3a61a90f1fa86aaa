"""Means, standard deviations and paired tests over seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from mlvpt.errors import InputError

PATTERNS = 2**16  # of signs: all of them up to 16 differences, so many at random beyond


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the latter NaN for a single value.

    Example:
        >>> mean_std([1.0, 2.0, 3.0])
        (2.0, 1.0)
    """
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


def paired_test(values: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """Compare two methods measured with the same seeds.

    Args:
        values: (n,) of the method.
        base: (n,) of what it is compared with, seed by seed in the same order.

    Returns:
        dict: n, difference (mean of values - base), std of the differences, interval [low, high]
        (95%, of the t distribution), t_p (two-sided paired t-test), permutation_p (two-sided
        sign-flip test, exact up to 16 pairs, else 65,536 random flips). NaN where n < 2. With n
        pairs permutation_p cannot be below 2 / 2^n: 0.0625 for 5.

    Example:
        >>> found = paired_test([3.0, 4.0, 5.0], [1.0, 3.0, 2.0])
        >>> found["difference"], found["permutation_p"]
        (2.0, 0.25)
    """
    values, base = np.asarray(values, dtype=float), np.asarray(base, dtype=float)
    if values.shape != base.shape or values.ndim != 1 or len(values) == 0:
        raise InputError("A paired test needs two lists of the same length, one value per seed.")
    differences = values - base
    mean, std = mean_std(differences)
    n = len(differences)
    result = {"n": n, "difference": mean, "std": std, "interval": [math.nan, math.nan]}
    if n < 2:
        return {**result, "t_p": math.nan, "permutation_p": math.nan}
    half = std / math.sqrt(n) * float(stats.t.ppf(0.975, n - 1))
    result["interval"] = [mean - half, mean + half]
    # without spread the t statistic is 0 / 0 or infinite
    t_p = float(stats.ttest_rel(values, base).pvalue) if std > 1e-12 else float(mean == 0)
    flipped = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=PATTERNS,
        random_state=0,
    )
    return {**result, "t_p": t_p, "permutation_p": float(flipped.pvalue)}


def unpaired_difference(
    rows: Sequence[dict[str, Any]], variant: str, base: str
) -> dict[str, Any] | None:
    """How far a variant of few runs, even a single one, is from its base.

    The standard deviation between seeds is pooled over all variants that have several, so it must
    be about the same for all: give the variants of one method, not several methods.

    Args:
        rows: runs: "variant", "seed" and "test_mAP", a fraction; of two runs of one variant and
            seed the later counts.
        variant, base: which are compared.

    Returns:
        {n: runs of the variant, difference of the means, interval [low, high] (95%, of the t
        distribution; NaN where no variant has two runs)}; None if one of the two was not run.

    Example:
        >>> runs = [{"variant": "a", "seed": seed, "test_mAP": seed / 10} for seed in range(3)]
        >>> runs.append({"variant": "b", "seed": 0, "test_mAP": 0.5})
        >>> found = unpaired_difference(runs, "b", "a")
        >>> round(found["difference"], 2), [round(end, 2) for end in found["interval"]]
        (0.4, [-0.1, 0.9])
    """
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        values.setdefault(row["variant"], {})[row["seed"]] = row["test_mAP"]
    if variant not in values or base not in values:
        return None
    runs = {name: np.array(list(found.values())) for name, found in values.items()}
    freedom = sum(len(found) - 1 for found in runs.values())
    difference = float(runs[variant].mean() - runs[base].mean())
    found = {"n": len(runs[variant]), "difference": difference, "interval": [math.nan, math.nan]}
    if freedom:
        squares = sum(float(((found - found.mean()) ** 2).sum()) for found in runs.values())
        error = math.sqrt(squares / freedom * (1 / len(runs[variant]) + 1 / len(runs[base])))
        half = error * float(stats.t.ppf(0.975, freedom))
        found["interval"] = [difference - half, difference + half]
    return found


def summarise(
    rows: Sequence[dict[str, Any]],
    base: str | None = None,
    measures: Sequence[str] = ("val_mAP", "test_mAP", "test_shifted_mAP", "drop"),
) -> list[dict[str, Any]]:
    """One line per variant from one row per run.

    Args:
        rows: runs: "variant", "seed" and the measures; "trained_parameters" and "seconds" too.
        base: the variant that the others are compared with, over the seeds both have.
        measures: keys of the rows; a measure that a run does not have is left out.

    Raises:
        InputError: no row of the base, or two rows of one variant and seed.

    Returns:
        In order of first appearance: {variant, n, trained_parameters, seconds, and per measure:
        its mean, its std as MEASURE_std, and against the base the dict of `paired_test` as
        MEASURE_vs_base}. Fractions.
    """
    by_variant: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        runs = by_variant.setdefault(row["variant"], {})
        if row["seed"] in runs:
            raise InputError(
                f"{row['variant']}, seed {row['seed']} has two rows, from different settings: "
                "summarise one of them."
            )
        runs[row["seed"]] = row
    if base is not None and base not in by_variant:
        raise InputError(f"There is no run of {base!r} to compare with: run it first.")
    lines = []
    for variant, runs in by_variant.items():
        line: dict[str, Any] = {"variant": variant, "n": len(runs)}
        for key in ("trained_parameters", "seconds"):
            values = [row[key] for row in runs.values() if key in row]
            line[key] = float(np.median(values)) if values else math.nan
        for measure in measures:
            values = [row[measure] for row in runs.values() if row.get(measure) is not None]
            if not values:
                continue
            line[measure], line[f"{measure}_std"] = mean_std(values)
            shared = sorted(runs.keys() & by_variant[base].keys()) if base else []
            shared = [s for s in shared if by_variant[base][s].get(measure) is not None]
            if shared and variant != base:
                line[f"{measure}_vs_base"] = paired_test(
                    [runs[seed][measure] for seed in shared],
                    [by_variant[base][seed][measure] for seed in shared],
                )
        lines.append(line)
    return lines
