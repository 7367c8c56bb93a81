#!/usr/bin/env python3
"""Prints what attackers send who know of four updates of six numbers, by the formulas of the papers, with numpy:

    python tests/reference/make_attacks.py

The output is in the tests of src/algorithm/attack.rs. The min-max attack is searched for as in the paper, by halving steps.
"""

from statistics import NormalDist

import numpy as np

KNOWN = np.array(
    [
        [0.5, -1.0, 0.25, 2.0, 0.0, -0.75],
        [0.75, -0.5, 0.5, 1.5, 0.125, -1.0],
        [0.25, -1.25, 0.0, 2.5, -0.25, -0.5],
        [0.625, -0.875, 0.375, 1.75, 0.0625, -0.8125],
    ]
)


def show(name, values):
    print(name)
    print("    [" + ", ".join(repr(float(value)) for value in np.atleast_1d(values)) + "]")


def alie_z(n, m):
    s = n // 2 + 1 - m
    return NormalDist().inv_cdf((n - m - s) / (n - m))


def min_max(x, direction):
    mean = x.mean(axis=0)
    largest = max(np.linalg.norm(a - b) for a in x for b in x)
    low, high = 0.0, 1e6
    for _ in range(200):
        gamma = (low + high) / 2
        fits = all(np.linalg.norm(mean + gamma * direction - a) <= largest for a in x)
        low, high = (gamma, high) if fits else (low, gamma)
    return mean + low * direction


mean = KNOWN.mean(axis=0)
deviation = KNOWN.std(axis=0)
show("ALIE, z = 1.5", mean - 1.5 * deviation)
show("IPM, 0.5", -0.5 * mean)
show("min-max, against the mean", min_max(KNOWN, -mean / np.linalg.norm(mean)))
show("min-max, against the deviation", min_max(KNOWN, -deviation))
show("min-max, against the sign", min_max(KNOWN, -np.sign(mean)))
show("z of ALIE, n = 50, m = 24; n = 5, m = 2; n = 10, m = 1", [alie_z(50, 24), alie_z(5, 2), alie_z(10, 1)])
