"""Plays transfers of different latencies in SimGrid with the weights of its TCP models, and writes the tables in weighted/.

    /usr/bin/python3 tests/simgrid/make_weighted.py

Needs Debian's python3-simgrid 3.32. README.md says what the tables have. SimGrid has one engine a process, so each case is played in a
process of its own: this file with `play` as its argument.
"""

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "weighted"

# Settings of SimGrid's models: weight-S [B], latency-factor, bandwidth-factor, and TCP-gamma [B], 0 for none.
MODELS = {
    "CM02": (0, 1, 1, 0),
    "CM02-gamma": (0, 1, 1, 1048576),
    "CM02-S": (20537, 1, 1, 0),
    "LV08": (20537, 13.01, 0.97, 4194304),
}
SHAPES = ["star", "star-caps", "tree", "tangle"]
SIZES = [8, 20, 60]


def case(shape, flows, draw):
    """Links (B/s, ns), and flows (start [ns], bytes, the own link's B/s and ns, shared links)."""
    if shape.startswith("star"):
        links = [(draw.randint(10, 125) * 1_000_000, draw.randint(1, 20) * 1_000_000)]
    elif shape == "tree":
        links = [(draw.randint(20, 60) * 1_000_000, 5_000_000)]
        links += [(draw.randint(5, 20) * 1_000_000, draw.randint(5, 80) * 1_000_000) for _ in range(3)]
    else:
        links = [(draw.randint(500_000, 20_000_000), draw.randint(1, 80) * 1_000_000) for _ in range(8)]
    fair = links[0][0] // flows
    made = []
    for _ in range(flows):
        cap = draw.randint(fair // 5, fair * 3) if shape == "star-caps" else draw.randint(50, 400) * 1_000_000
        if shape.startswith("star"):
            route = [0]
        elif shape == "tree":
            route = [draw.randint(1, 3), 0]
        else:
            route = draw.sample(range(8), draw.randint(1, 4))
        latency = draw.randint(1, 200_000_000)
        made.append((draw.randint(0, 500_000_000), draw.randint(5_000_000, 20_000_000), cap, latency, route))
    return links, made


def play():
    """Plays the case on standard input and writes when each flow ends [s]."""
    import simgrid

    asked = json.load(sys.stdin)
    weight_s, latency_factor, bandwidth_factor, gamma = asked["model"]
    settings = [
        "network/model:CM02",
        f"network/weight-S:{weight_s}",
        f"network/latency-factor:{latency_factor}",
        f"network/bandwidth-factor:{bandwidth_factor}",
        f"network/TCP-gamma:{gamma}",
    ]
    if asked["name"] == "LV08":
        # The model's own settings.
        settings = ["network/model:LV08"]
    settings += ["network/crosstraffic:0", "surf/precision:1e-12", "maxmin/precision:1e-9"]
    engine = simgrid.Engine(["weighted", *[f"--cfg={setting}" for setting in settings], "--log=root.thres:critical"])
    zone = simgrid.NetZone.create_full_zone("zone")
    links = []
    for number, (capacity, latency) in enumerate(asked["links"]):
        links.append(zone.create_link(f"link{number}", capacity).set_latency(latency * 1e-9).seal())
    ends = [None] * len(asked["flows"])

    def send(number, start, size, source, target):
        simgrid.this_actor.sleep_until(start * 1e-9)
        simgrid.Comm.sendto_async(source, target, size).wait()
        ends[number] = simgrid.Engine.get_clock()

    for number, (start, size, cap, latency, route) in enumerate(asked["flows"]):
        source = zone.create_host(f"from{number}", 1e9).seal()
        target = zone.create_host(f"to{number}", 1e9).seal()
        own = zone.create_link(f"own{number}", cap).set_latency(latency * 1e-9).seal()
        way = [simgrid.LinkInRoute(link) for link in [own] + [links[link] for link in route]]
        zone.add_route(source.netpoint, target.netpoint, None, None, way, False)
        simgrid.Actor.create(f"flow{number}", source, send, number, start, size, source, target)
    zone.seal()
    engine.run()
    print(json.dumps(ends))


def main():
    draw = random.Random(20261130)
    tables = {
        "cases": [["case", "model", "shape", "weight_s", "latency_factor", "bandwidth_factor", "tcp_gamma"]],
        "links": [["case", "link", "bytes_per_s", "latency_ns"]],
        "flows": [["case", "flow", "start_ns", "bytes", "own_bytes_per_s", "own_latency_ns", "route", "finish_s"]],
    }
    number = 0
    for name, model in MODELS.items():
        for shape in SHAPES:
            for size in SIZES:
                links, flows = case(shape, size, draw)
                asked = json.dumps({"name": name, "model": model, "links": links, "flows": flows})
                done = subprocess.run([sys.executable, __file__, "play"], input=asked, capture_output=True, text=True, check=True)
                ends = json.loads(done.stdout)
                tables["cases"].append([number, name, shape, *model])
                tables["links"] += [[number, link, *properties] for link, properties in enumerate(links)]
                for flow, (start, octets, cap, latency, route) in enumerate(flows):
                    way = " ".join(map(str, route))
                    tables["flows"].append([number, flow, start, octets, cap, latency, way, repr(ends[flow])])
                number += 1
    FOLDER.mkdir(exist_ok=True)
    for name, rows in tables.items():
        with open(FOLDER / f"{name}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    play() if sys.argv[1:] == ["play"] else main()
