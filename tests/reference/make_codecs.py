#!/usr/bin/env python3
"""Prints encoded changes and their decoded values, by the formulas of the papers, with numpy:

    python tests/reference/make_codecs.py

The output is in src/compression/tests.rs. NF4's values are computed from quantiles of the normal distribution, as its paper says.
"""

from statistics import NormalDist

import numpy as np

SHORT = np.array([0.5, -1.0, 0.25, 2.0, 0.0, -0.75, 0.125, -0.0625, 1.5, -1.25], dtype=np.float32)
LONG = np.array([(n * 37 % 101 - 50) / 64 for n in range(66)], dtype=np.float32)
DRAWS = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.6, 0.4, 0.8, 0.05]


def little(codes, width):
    """Codes of some bits, the first in the lowest bits of the first byte."""
    bits = [code >> place & 1 for code in codes for place in range(width)]
    bits += [0] * (-len(bits) % 8)
    return bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def top_k(x, k):
    places = np.sort(np.argsort(-np.abs(x), kind="stable")[:k])
    decoded = np.zeros_like(x)
    decoded[places] = x[places]
    return places.astype("<u4").tobytes() + x[places].astype("<f4").tobytes(), decoded


def sign(x):
    scale = np.float32(np.mean(np.abs(x.astype(np.float64))))
    return scale.tobytes() + little([int(v < 0) for v in x], 1), np.where(x < 0, -scale, scale)


def blocks(x, size=64):
    return [x[at : at + size] for at in range(0, len(x), size)]


def int8(x):
    scales, codes, decoded = b"", b"", []
    for block in blocks(x):
        most = np.abs(block).max()
        of_block = np.rint(127 * block.astype(np.float64) / np.float64(most)).astype(np.int8)
        scales += most.tobytes()
        codes += of_block.tobytes()
        decoded.append((of_block * np.float64(most) / 127).astype(np.float32))
    return scales + codes, np.concatenate(decoded)


def normal_map(offset=0.9677083):
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    values = np.array(sorted(below + [0.0] + above))
    return (values / values.max()).astype(np.float32)


def nf4(x):
    values, scales, codes, decoded = normal_map(), b"", [], []
    for block in blocks(x):
        most = np.abs(block).max()
        of_block = [int(np.argmin(np.abs(values - v / most))) for v in block]
        scales += most.tobytes()
        codes += of_block
        decoded += [values[code] * most for code in of_block]
    return scales + little(codes, 4), np.array(decoded, dtype=np.float32)


def qsgd(x, levels, bucket, draws):
    width = int(np.ceil(np.log2(levels + 1))) + 1
    norms, codes, decoded = b"", [], []
    for number, block in enumerate(blocks(x, bucket)):
        exact = np.sqrt(np.sum(block.astype(np.float64) ** 2))
        norm = np.float32(exact)
        if norm < exact:
            norm = np.nextafter(norm, np.float32(np.inf))
        norms += norm.tobytes()
        for place, value in enumerate(block):
            part = abs(np.float64(value)) / np.float64(norm) * levels
            level = int(part) + (draws[number * bucket + place] < part - int(part))
            codes.append(int(level) << 1 | int(value < 0))
            decoded.append(np.float32((-1 if value < 0 else 1) * np.float64(norm) * level / levels))
    return norms + little(codes, width), np.array(decoded)


def show(name, encoded, decoded):
    print(name)
    print(f'    "{encoded.hex()}"')
    print("    [" + ", ".join(repr(float(value)) for value in decoded) + "]")


show("TopK, 3 of 10", *top_k(SHORT, 3))
show("SignSgd", *sign(SHORT))
show("Int8", *int8(SHORT))
show("Nf4", *nf4(SHORT))
show("Qsgd, 4 levels, buckets of 4", *qsgd(SHORT, 4, 4, DRAWS))
for name, codec in [("Int8", int8), ("Nf4", nf4)]:
    encoded, decoded = codec(LONG)
    show(f"{name} of 66 values, of which 62 to 65", encoded, decoded[62:])
