"""Plays the cases again by progressive filling in 60 lines of Python, and prints how far SimGrid's finish times are away.

    python tests/simgrid/check_cases.py

Needs nothing but the standard library. It guards the tables themselves: the rule that README.md states is the one in them.
"""

import csv
import math
from pathlib import Path

HERE = Path(__file__).parent


def rows(name):
    with open(HERE / name, newline="") as file:
        return list(csv.DictReader(file))


def shares(active, capacity, routes):
    """Max-min fair rate of each active flow: fill all equally, fix those on the link that is full first, go on."""
    rate, left = {}, dict(capacity)
    open_flows = set(active)
    while open_flows:
        count = {}
        for f in open_flows:
            for link in routes[f]:
                count[link] = count.get(link, 0) + 1
        level, bottleneck = min((left[link] / n, link) for link, n in count.items())
        for f in [f for f in open_flows if bottleneck in routes[f]]:
            rate[f] = level
            open_flows.remove(f)
            for link in routes[f]:
                left[link] = max(0.0, left[link] - level)
    return rate


def play(links, flows):
    """Finish time of each flow [s]: it waits the latency of its route, then shares every link of it."""
    capacity = {("link", int(l["link"])): float(l["bytes_per_s"]) for l in links}
    latency = {int(l["link"]): int(l["latency_ns"]) for l in links}
    routes, arrivals, work, finish = {}, [], {}, {}
    for flow in flows:
        f, route = int(flow["flow"]), [int(l) for l in flow["route"].split()]
        routes[f] = {("link", l) for l in route}
        if flow["cap_bytes_per_s"]:
            capacity["cap", f] = float(flow["cap_bytes_per_s"])
            routes[f].add(("cap", f))
        arrivals.append(((int(flow["start_ns"]) + sum(latency[l] for l in route)) * 1e-9, f))
        work[f] = float(flow["bytes"])
    arrivals.sort(reverse=True)
    now, active = 0.0, set()
    while arrivals or active:
        rate = shares(active, capacity, routes)
        ends = [(now + work[f] / rate[f], f) for f in active]
        at = min([arrivals[-1][0]] if arrivals else [math.inf])
        next_end, first = min(ends, default=(math.inf, None))
        later = min(at, next_end)
        for f in active:
            work[f] -= rate[f] * (later - now)
        now = later
        if next_end <= at:
            finish[first] = now
            active.remove(first)
        else:
            active.add(arrivals.pop()[1])
    return finish


def main():
    links, flows = rows("links.csv"), rows("flows.csv")
    worst = 0.0
    for case in rows("cases.csv"):
        mine = [f for f in flows if f["case"] == case["case"]]
        finish = play([l for l in links if l["case"] == case["case"]], mine)
        errors = [abs(finish[int(f["flow"])] / float(f["finish_s"]) - 1) for f in mine]
        print(f"case {case['case']:>2} {case['kind']:<14} {case['latency']:<5} {len(mine):>3} flows: {max(errors):.1e}")
        worst = max(worst, *errors)
    print(f"worst relative difference of a finish time: {worst:.1e}")
    assert worst < 1e-6


if __name__ == "__main__":
    main()
