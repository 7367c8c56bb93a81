"""Makes the fixtures of the privacy accountants: fixtures/privacy/*.csv, from dp-accounting and Opacus.

    pip install -r tests/reference/privacy/requirements.txt
    python tests/reference/privacy/make_privacy.py fixtures/privacy
"""

import csv
import itertools
import math
import pathlib
import signal
import sys

import dp_accounting as dp
import mpmath
from dp_accounting import pld, rdp
from dp_accounting.rdp import rdp_privacy_accountant as internals
from opacus.accountants.analysis import rdp as opacus

NOISE = [0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0, 8.0, 20.0]
RATES = [1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.5, 1.0]
STEPS = [1, 10, 100, 1000, 10_000, 100_000]
DELTAS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
# Points that others have published or computed by other means.
KNOWN = [(1.0, 0.01, 1000, 1e-5), (1.1, 0.004, 3000, 1e-5), (0.8, 0.05, 100, 1e-5), (1.0, 0.1, 200, 1e-5),
         (2.0, 0.1, 200, 1e-5), (4.0, 1.0, 100, 1e-5), (1.0, 1.0, 1, 1e-5), (1.5, 0.05, 500, 1e-6),
         (0.7, 0.005, 2000, 1e-6), (1.0, 0.02, 100, 1e-5), (3.0, 0.2, 100, 1e-5)]
INTEGERS = list(range(2, 65)) + [128, 256, 512, 1024]
OPACUS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 65)) + [128, 256, 512, 1024]
FIXED_SIZE = [(1.0, 1000, 10, 1000, 1e-5), (1.0, 100, 10, 200, 1e-5), (2.0, 100, 10, 200, 1e-5),
              (4.0, 20, 2, 100, 1e-3), (1.0, 738, 10, 100, 1e-4), (1.0, 5000, 50, 100, 1e-5),
              (0.7, 5000, 5, 100, 1e-5), (1.5, 747, 10, 200, 1e-4), (3.0, 50, 5, 500, 1e-3),
              (8.0, 24, 8, 12, 1e-2), (2.0, 100_000, 100, 1000, 1e-7), (5.0, 40, 20, 30, 1e-4), (2.0, 10, 10, 5, 1e-3)]
SECONDS = 60


def event(noise, rate, steps):
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)), steps)


def rdp_epsilon(noise, rate, steps, delta, orders=None):
    accountant = rdp.RdpAccountant(orders) if orders else rdp.RdpAccountant()
    return accountant.compose(event(noise, rate, steps)).get_epsilon(delta)


def opacus_epsilon(noise, rate, steps, delta):
    values = opacus.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=OPACUS)
    pairs = [(order, value) for order, value in zip(OPACUS, values) if math.isfinite(value)]
    orders, values = zip(*pairs)
    return opacus.get_privacy_spent(orders=list(orders), rdp=list(values), delta=delta)[0]


def pld_epsilon(noise, rate, steps, delta, interval):
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    return accountant.compose(event(noise, rate, steps)).get_epsilon(delta)


class TooSlow(Exception):
    pass


def on_alarm(*_):
    raise TooSlow


def converged_pld(point):
    """Epsilon on ever finer grids until a grid four times finer changes it by less than 2e-4; None after a minute."""
    signal.alarm(SECONDS)
    try:
        interval, before = 1e-4, None
        while True:
            found = pld_epsilon(*point, interval)
            if not 0.01 <= found <= 100 and before is None and interval == 1e-4 and found > 100:
                return None
            if before is not None and abs(found / before - 1) < 2e-4:
                return found, interval
            before, interval = found, interval / 4
    except (TooSlow, MemoryError, ZeroDivisionError):
        return None
    finally:
        signal.alarm(0)


def points():
    grid = list(itertools.product(NOISE, RATES, STEPS))
    # Every third, with the deltas in turn: no coordinate is tied to another.
    thinned = [(z, q, t, DELTAS[(i // 3) % 6]) for i, (z, q, t) in enumerate(grid) if i % 3 == (i // 42) % 3]
    return KNOWN + thinned


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([repr(value) if isinstance(value, float) else value for value in row])


def epsilons():
    for point in points():
        by_rdp = rdp_epsilon(*point)
        if not 0.01 <= by_rdp <= 110:
            continue
        tight = converged_pld(point)
        if tight is None or not 0.01 <= tight[0] <= 100:
            print("left out:", point, by_rdp, tight, file=sys.stderr, flush=True)
            continue
        row = [*point, float(by_rdp), float(rdp_epsilon(*point, INTEGERS)), float(opacus_epsilon(*point)),
               float(tight[0]), tight[1]]
        print(row, file=sys.stderr, flush=True)
        yield row


def exact_rdp(noise, rate, order):
    """The integral of Mironov, Talwar and Zhang 2019 with forty digits."""
    q, z, a = mpmath.mpf(rate), mpmath.mpf(noise), mpmath.mpf(order)

    def density(x):
        ratio = (1 - q) + q * mpmath.exp((2 * x - 1) / (2 * z * z))
        return mpmath.exp(-x * x / (2 * z * z)) / (z * mpmath.sqrt(2 * mpmath.pi)) * ratio**a

    ends = [-14 * z + (28 * z + a) * i / 24 for i in range(25)]
    return float(mpmath.log(mpmath.quad(density, ends)) / (a - 1))


def single_steps():
    for noise, rate in itertools.product([0.5, 0.7, 1.0, 2.0, 8.0], [1e-4, 0.01, 0.1, 0.5, 1.0]):
        for order in [1.25, 1.5, 2.8, 6.5, 10.9, 2, 3, 4, 8, 16, 32, 64]:
            theirs = internals._compute_rdp_poisson_subsampled_gaussian(rate, noise, [order])[0]
            yield [noise, rate, float(order), float(theirs), exact_rdp(noise, rate, order)]


def fixed_sizes():
    for noise, clients, cohort, steps, delta in FIXED_SIZE:
        accountant = rdp.RdpAccountant(INTEGERS, dp.NeighboringRelation.REPLACE_ONE)
        sampled = dp.SampledWithoutReplacementDpEvent(clients, cohort, dp.GaussianDpEvent(noise))
        accountant.compose(dp.SelfComposedDpEvent(sampled, steps))
        yield [noise, clients, cohort, steps, delta, float(accountant.get_epsilon(delta))]


def main():
    mpmath.mp.dps = 40
    signal.signal(signal.SIGALRM, on_alarm)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "single_step.csv", ["noise", "rate", "order", "dp_accounting", "exact"], single_steps())
    write(folder / "fixed_size.csv", ["noise", "clients", "cohort", "steps", "delta", "dp_accounting"], fixed_sizes())
    header = ["noise", "rate", "steps", "delta", "rdp_dp_accounting", "rdp_integer_orders", "rdp_opacus", "pld",
              "pld_interval"]
    write(folder / "poisson.csv", header, epsilons())


if __name__ == "__main__":
    main()
