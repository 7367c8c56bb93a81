"""Computes again when the transfers of a schedule end that share the links of the server.

A transfer waits the latency of its client's link, and then has the client's link and that of the server, which all transfers of its
direction share max-min fairly. SimGrid plays the transfers of a run in one go, each from the instant at which the run's own schedule
begins it. The settings are those of tests/simgrid, whose README says why. Debian's python3-simgrid is a module of the system's Python,
so this file is its program, too: it reads transfers as JSON, and writes the seconds that each took.

Without SimGrid, progressive filling plays them (tests/simgrid/check_cases.py, whose results SimGrid 3.32 confirmed); the table says
by which. Latencies without jitter, `network: ServerLink`, and no transfer that was broken off.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "simgrid"))
import check_cases

SYSTEM_PYTHON = "/usr/bin/python3"
SETTINGS = [
    "network/model:CM02",
    "network/TCP-gamma:0",
    "network/bandwidth-factor:1",
    "network/latency-factor:1",
    "network/weight-S:0",
    "network/crosstraffic:0",
]
UNITS = {"bit/s": 1, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}

# Relative to the seconds of a transfer. Ends are rounded up to a nanosecond.
TOLERANCE = 1e-6


class Transfer:
    """One transfer: from when it has its links and for how long [s], its bytes, and what its client's link carries [B/s]."""

    def __init__(self, begins_ns, ends_ns, latency_ns, size, cap_bits):
        self.starts = (begins_ns + latency_ns) * 1e-9
        self.took = (ends_ns - begins_ns - latency_ns) * 1e-9
        self.size = size
        self.cap = cap_bits / 8


def capacity(run, way):
    """[B/s] -- Capacity of a link of the server."""
    value, unit = re.search(rf'\b{way}: "([0-9.]+) (\w*bit/s)"', run.scenario).groups()
    return float(value) * UNITS[unit] / 8


def transfers(run):
    """The transfers down and up."""
    rows = run.query(
        """SELECT t.*, p.latency_ns, p.downlink_bits_per_second AS down, p.uplink_bits_per_second AS up
           FROM {tasks} t JOIN {population} p USING (client) ORDER BY task"""
    )
    assert re.search(r"network: ServerLink", run.scenario) and "latency_jitter: Some" not in run.scenario
    assert "network_sharing" not in run.scenario, "shares by weight are compared by tests/simgrid/make_weighted.py"
    assert "handshakes" not in run.scenario, "SimGrid's links have no handshakes and no slow start of their own"
    ways = {"downlink": [], "uplink": []}
    for row in rows:
        assert row["download_done_at_ns"] is not None, "a download was broken off"
        assert row["upload_done_at_ns"] is not None or row["bytes_up"] == 0, "an upload was broken off"
        ways["downlink"].append(
            Transfer(row["dispatched_at_ns"], row["download_done_at_ns"], row["latency_ns"], row["wire_bytes_down"], row["down"])
        )
        if row["upload_done_at_ns"] is not None:
            ways["uplink"].append(
                Transfer(row["training_done_at_ns"], row["upload_done_at_ns"], row["latency_ns"], row["wire_bytes_up"], row["up"])
            )
    return ways


def by_simgrid(ways, capacities):
    """SimGrid's version and the seconds of each transfer; None where version 3.32, whose interface is used, is not installed."""
    try:
        asked = "import simgrid; print(simgrid.simgrid_version)"
        found = subprocess.run([SYSTEM_PYTHON, "-c", asked], capture_output=True, text=True)
    except OSError:
        return None
    if found.returncode != 0 or not found.stdout.startswith("3.32"):
        return None
    flows = {way: [[transfer.starts, transfer.size, transfer.cap] for transfer in of_way] for way, of_way in ways.items()}
    asked = json.dumps({"flows": flows, "capacities": capacities})
    done = subprocess.run([SYSTEM_PYTHON, __file__], input=asked, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: SimGrid ended with {done.returncode}:\n{done.stderr}")
    answer = json.loads(done.stdout)
    return f"SimGrid {answer['version']}", answer["took"]


def simulate():
    """Plays the transfers on standard input in SimGrid 3.32."""
    import simgrid

    asked = json.load(sys.stdin)
    engine = simgrid.Engine(["schedule", *[f"--cfg={setting}" for setting in SETTINGS], "--log=root.thres:critical"])
    zone = simgrid.NetZone.create_full_zone("zone")
    server = zone.create_host("server", 1e9).seal()
    took = {way: [None] * len(flows) for way, flows in asked["flows"].items()}

    def play(way, number, starts, size, ends):
        simgrid.this_actor.sleep_until(starts)
        begins = simgrid.Engine.get_clock()
        simgrid.Comm.sendto_async(*ends, size).wait()
        took[way][number] = simgrid.Engine.get_clock() - begins

    for way, flows in asked["flows"].items():
        shared = zone.create_link(way, asked["capacities"][way]).set_latency(0).seal()
        for number, (starts, size, cap) in enumerate(flows):
            # One host for each transfer, since two transfers of a client do not overlap.
            client = zone.create_host(f"{way}-{number}", 1e9).seal()
            own = zone.create_link(f"{way}-{number}", cap).set_latency(0).seal()
            ends = (server, client) if way == "downlink" else (client, server)
            route = [simgrid.LinkInRoute(link) for link in (shared, own)]
            zone.add_route(ends[0].netpoint, ends[1].netpoint, None, None, route, False)
            simgrid.Actor.create(f"{way}-{number}", client, play, way, number, starts, size, ends)
    zone.seal()
    engine.run()
    print(json.dumps({"version": simgrid.simgrid_version, "took": took}))


def by_filling(ways, capacities):
    """Seconds of each transfer by progressive filling."""
    took = {}
    for way, of_way in ways.items():
        links = [{"link": 0, "bytes_per_s": capacities[way], "latency_ns": 0}]
        flows = []
        for number, transfer in enumerate(of_way):
            flows.append(
                {"flow": number, "route": "0", "start_ns": round(transfer.starts * 1e9), "bytes": transfer.size, "cap_bytes_per_s": transfer.cap}
            )
        finish = check_cases.play(links, flows)
        took[way] = [finish[number] - transfer.starts for number, transfer in enumerate(of_way)]
    return took


# The schedule with planted errors has the same transfers.
PLAYED = {}


def compare(table, run):
    """Adds the transfers of both directions, and requires that enough of them shared their link."""
    ways = transfers(run)
    capacities = {way: capacity(run, way) for way in ways}
    if run.folder not in PLAYED:
        PLAYED[run.folder] = by_simgrid(ways, capacities) or ("check_cases.py", by_filling(ways, capacities))
    by, took = PLAYED[run.folder]
    for way, of_way in ways.items():
        alone = [transfer.size / min(transfer.cap, capacities[way]) for transfer in of_way]
        shared = sum(seconds > 1.01 * least for seconds, least in zip(took[way], alone))
        assert shared >= len(of_way) / 4, f"{way}: only {shared} of {len(of_way)} transfers share the link"
        # Relative to each transfer's own time, which may be far less than a second.
        pairs = [(transfer.took / seconds, 1.0) for transfer, seconds in zip(of_way, took[way])]
        table.line(f"transfers on the server's {way}, {shared} of them slowed", by, pairs, TOLERANCE)


if __name__ == "__main__":
    simulate()
