#!/usr/bin/env python3
"""Prints what robust rules make of five clients' updates of six numbers, by the formulas of the papers, with numpy:

    python tests/reference/make_robust.py

The output is in src/algorithm/robust/tests.rs, of FLTrust in trust.rs. For each rule, the first line is the aggregate, the second the mean factor on each
update over the six numbers. Bulyan takes seven clients, since it needs 4 f + 3.
"""

import numpy as np

UPDATES = np.array(
    [
        [0.5, -1.0, 0.25, 2.0, 0.0, -0.75],
        [0.75, -0.5, 0.5, 1.5, 0.125, -1.0],
        [0.25, -1.25, 0.0, 2.5, -0.25, -0.5],
        [0.625, -0.875, 0.375, 1.75, 0.0625, -0.8125],
        [9.0, 8.0, -7.0, -6.0, 5.0, 4.0],
    ]
)
MORE = np.array([[0.375, -1.5, 0.125, 2.25, -0.125, -0.625], [0.875, -0.625, 0.75, 1.25, 0.25, -1.125]])
SAMPLES = np.array([3.0, 1.0, 2.0, 2.0, 4.0])


def show(name, aggregate, factors):
    print(name)
    for row in (aggregate, factors):
        print("    [" + ", ".join(repr(float(value)) for value in row) + "]")


def median(x):
    factors = np.zeros(x.shape)
    for j in range(x.shape[1]):
        factors[np.argsort(x[:, j], kind="stable")[len(x) // 2], j] = 1
    return np.median(x, axis=0), factors.mean(axis=1)


def trimmed_mean(x, trim):
    cut = int(trim * len(x))
    factors = np.zeros(x.shape)
    for j in range(x.shape[1]):
        factors[np.argsort(x[:, j], kind="stable")[cut : len(x) - cut], j] = 1 / (len(x) - 2 * cut)
    return (factors * x).sum(axis=0), factors.mean(axis=1)


def scores(x, f):
    distances = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    # Without the distance to itself; at the end of Bulyan's selection the nearest neighbor alone.
    return np.sort(distances, axis=1)[:, 1 : 1 + max(len(x) - f - 2, 1)].sum(axis=1)


def multi_krum(x, f, m):
    chosen = np.argsort(scores(x, f), kind="stable")[:m]
    factors = np.zeros(len(x))
    factors[chosen] = 1 / m
    return x[chosen].mean(axis=0), factors


def bulyan(x, f):
    n = len(x)
    left, selected = list(range(n)), []
    while len(selected) < n - 2 * f:
        selected.append(left.pop(int(np.argmin(scores(x[left], f)))))
    factors = np.zeros(x.shape)
    for j in range(x.shape[1]):
        values = x[selected, j]
        center = np.sort(values)[(len(values) - 1) // 2]
        # Of two values at the same distance, the smaller one.
        closest = np.lexsort((values, np.abs(values - center)))[: n - 4 * f]
        factors[np.array(selected)[closest], j] = 1 / (n - 4 * f)
    return (factors * x).sum(axis=0), factors.mean(axis=1)


def geometric_median(x, weights, smoothing, iterations):
    center = np.zeros(x.shape[1])
    for _ in range(iterations):
        factors = weights / np.maximum(np.linalg.norm(x - center, axis=1), smoothing)
        factors /= factors.sum()
        center = factors @ x
    return center, factors


def norm_bounding(x, weights, bound):
    factors = weights * np.minimum(1, bound / np.linalg.norm(x, axis=1))
    return factors @ x, factors


def centered_clipping(x, center, radius, iterations):
    factors = np.zeros(len(x))
    for _ in range(iterations):
        differences = x - center
        steps = np.minimum(1, radius / np.linalg.norm(differences, axis=1)) / len(x)
        center = center + steps @ differences
        factors = factors * (1 - steps.sum()) + steps
    return center, factors


def fl_trust(x, root):
    norms = np.linalg.norm(x, axis=1)
    trust = np.maximum(0, x @ root / norms / np.linalg.norm(root))
    factors = trust * np.linalg.norm(root) / norms / trust.sum()
    return factors @ x, factors


weights = SAMPLES / SAMPLES.sum()
show("median", *median(UPDATES))
show("trimmed mean, 0.2", *trimmed_mean(UPDATES, 0.2))
show("Krum, f = 1", *multi_krum(UPDATES, 1, 1))
show("Multi-Krum, f = 1, all n - f - 2", *multi_krum(UPDATES, 1, 2))
show("Multi-Krum, f = 0, 3 selected", *multi_krum(UPDATES, 0, 3))
show("Bulyan, f = 1, seven clients", *bulyan(np.vstack([UPDATES, MORE]), 1))
show("geometric median, 3 iterations", *geometric_median(UPDATES, weights, 1e-6, 3))
show("geometric median, 200 iterations", *geometric_median(UPDATES, weights, 1e-6, 200))
show("norm bounding, 2.5", *norm_bounding(UPDATES, weights, 2.5))
first = centered_clipping(UPDATES, np.zeros(6), 1.5, 2)
show("centered clipping, radius 1.5, 2 iterations", *first)
show("the round after", *centered_clipping(UPDATES, first[0].astype(np.float32).astype(float), 1.5, 2))
show("FLTrust", *fl_trust(UPDATES, MORE[0]))
show("FLTrust, a server that trusts the last client alone", *fl_trust(UPDATES, -UPDATES[0]))
