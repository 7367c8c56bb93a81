"""Compares the plan of a federation with the same federation on shaped links in network namespaces: tables of real / planned.

    tools/clock/check [--small] [--only NAME]... [--congestion NAME]... [--seed N] [--set PATH=VALUE]... [--csv FILE]
    tools/clock/check --only training --profile FILE

A server and the clients of clock.ron exchange messages of the planned sizes (federation.py) over links of the planned
rates (network.py), and sleep for the planned training. Those of training.ron really train (lora.py), which is planned by a profile of
this machine. Compared are the times of each task's download, training and upload, and the
rounds. Exits with 1 if a target is missed.

A transfer has stalled if the client's link carries nothing for a second meanwhile. Rounds without a stall are judged, and the share
of the others is printed.
"""

import argparse
import csv
import json
import math
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import network

HERE = Path(__file__).parent
SCENARIO = "tools/clock/clock.ron"
SCENARIO_OF_TRAINING = "tools/clock/training.ron"
UNITS = {"bit/s": 1, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
SHARED = ["--set", 'server.downlink="20 Mbit/s"', "--set", 'server.uplink="20 Mbit/s"']
HTTP2 = ["--set", "population.links.shaped.transport.overhead=TcHttp2"]
IDEAL = ["--set", "population.links.shaped.transport.overhead=Ideal"]
# Of each setting of the small form, a plan that its measurements must not agree with: without headers, without the shared link.
WRONG = {"tcp-own": IDEAL, "tcp-shared": ["--set", 'server.downlink="10 Gbit/s"', "--set", 'server.uplink="10 Gbit/s"']}
# The small form: one round with messages of 1.9 MB and a fifth of the training.
SMALL = ["--set", "rounds=1", "--set", "model.lora.rank=3", "--set", "training.local_steps=2"]
# Messages so small that slow start takes a good part of their time.
LATENCY = ["--set", "population.links.shaped.latency=50ms", "--set", 'population.links.shaped.transport.initial_window="14480 B"']
LATENCY += ["--set", "model.lora.rank=1"]
SETTINGS = {
    "tcp-own": ("tcp", []),
    "tcp-shared": ("tcp", SHARED),
    "tcp-latency": ("tcp", LATENCY),
    "flower-own": ("flower", HTTP2),
    "flower-shared": ("flower", HTTP2 + SHARED),
}
# Real training is compared where it is asked for, since it needs a profile of this machine.
TRAINING = ("lora", [])
PYTHON = {"tcp": sys.executable, "lora": ".venv-peer/bin/python", "flower": ".venv-flower/bin/python"}
# Spread of the noise of shares with which bands are planned: the nearest tenth to what seed 1 measured (docs/clock.md).
SPREAD = 0.3
PHASES = ("download", "training", "upload", "task")
# BBR starves one of eight connections now and then, and what is left of it is slow alone: about one attempt in eight fails.
ATTEMPTS = 5


class Plan:
    """A plan's tables, in seconds."""

    def __init__(self, program: str, folder: Path, options: list[str], scenario: str = SCENARIO):
        command = [program, "plan", scenario, "--detail", "tasks", "--out", str(folder), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")
        self.folder = folder
        self.tasks = self.query(
            """SELECT client, round, bytes_down, bytes_up, (download_done_at_ns - dispatched_at_ns) / 1e9 AS download_s,
               (training_done_at_ns - download_done_at_ns) / 1e9 AS training_s, (upload_done_at_ns - training_done_at_ns) / 1e9 AS upload_s,
               (upload_done_at_ns - dispatched_at_ns) / 1e9 AS task_s, outcome FROM {tasks} ORDER BY task"""
        )
        rounds = self.query("SELECT round, (closed_at_ns - opened_at_ns) / 1e9 AS took FROM {rounds}")
        self.rounds = {row["round"]: row["took"] for row in rounds}
        links = self.query(
            """SELECT downlink_bits_per_second AS down, uplink_bits_per_second AS up, latency_ns / 1e9 AS latency
               FROM {population} ORDER BY client"""
        )
        self.links = [network.Link(**row) for row in links]
        resolved = (folder / "scenario.ron").read_text()
        self.server = network.Link(rate(resolved, "downlink"), rate(resolved, "uplink"))
        for name, field in (("rank", "rank"), ("steps", "local_steps"), ("batch", "batch_size"), ("length", "tokens_per_row")):
            figure = int(re.search(rf"\b{field}: ([0-9]+)", resolved).group(1))
            for task in self.tasks:
                task[name] = figure
        if any(task["outcome"] != "counted" for task in self.tasks):
            raise SystemExit("error: the real clients finish all tasks, so those of the plan must count")

    def query(self, sql: str) -> list[dict]:
        for name in ("tasks", "rounds", "population"):
            sql = sql.replace("{" + name + "}", f"'{self.folder}/ledger/{name}/*.parquet'")
        cursor = duckdb.sql(sql)
        return [dict(zip(cursor.columns, row)) for row in cursor.fetchall()]


def rate(scenario: str, way: str) -> float:
    """[bit/s] -- Capacity of a link of the server."""
    value, unit = re.search(rf'\b{way}: "([0-9.]+) (\w*bit/s)"', scenario).groups()
    return float(value) * UNITS[unit]


@dataclass
class Real:
    """What was measured of a task, in seconds, and which of its transfers stalled."""

    client: int
    round: int
    seconds: dict[str, float]
    stalled: list[str]


@dataclass
class Measured:
    tasks: list[Real]
    rounds: dict[int, float]

    def smooth_rounds(self) -> set[int]:
        """Rounds without a stall."""
        return set(self.rounds) - {task.round for task in self.tasks if task.stalled}


def federate(plan: Plan, wire: str, congestion: str) -> Measured:
    """Runs the federation of a plan, and measures it."""
    relays = network.build(plan.server, plan.links, congestion)
    tasks = plan.folder / "tasks.json"
    tasks.write_text(json.dumps(plan.tasks))
    watch = network.Watch()
    watch.start()
    peers = []
    for client in [None, *range(len(plan.links))]:
        inside = ["ip", "netns", "exec", network.namespace(client)]
        role = "server" if client is None else str(client)
        command = [*inside, PYTHON[wire], str(HERE / "federation.py"), wire, str(tasks), role, network.address(None)]
        peers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    planned = sum(plan.rounds.values())
    ends = time.monotonic() + 10 * planned + 300
    # What the processes write fits into their pipes.
    while any(peer.poll() is None for peer in peers) and not any(peer.returncode for peer in peers):
        if time.monotonic() > ends:
            raise SystemExit(f"error: {wire}: not done after ten times the planned {planned:.0f} s and five minutes")
        time.sleep(0.05)
    for peer in peers:
        if peer.returncode:
            raise SystemExit(f"error: {shlex.join(peer.args)}: {peer.communicate()[1]}")
    events: dict[tuple, float] = {}
    for peer in peers:
        for line in peer.communicate()[0].splitlines():
            *key, at = json.loads(line)
            events[tuple(key)] = at
    watch.is_over.set()
    watch.join()
    network.tear_down(plan.links, relays)
    return measured(plan, events, watch)


def measured(plan: Plan, events: dict[tuple, float], watch: network.Watch) -> Measured:
    tasks = []
    for task in plan.tasks:
        key = task["client"], task["round"]
        instants = [events[(what, *key)] for what in ("dispatched", "received", "trained", "arrived")]
        sent, received, trained, arrived = instants
        seconds = dict(zip(PHASES, (received - sent, trained - received, arrived - trained, arrived - sent)))
        spans = {"download": ("down", sent, received), "upload": ("up", trained, arrived)}
        stalled = [phase for phase, (way, *span) in spans.items() if watch.stalled(way, task["client"], *span)]
        tasks.append(Real(*key, seconds, stalled))
    return Measured(tasks, {number: events["closed", number] - events["opened", number] for number in plan.rounds})


class Comparison:
    """Real / planned of a measurement."""

    def __init__(self, plan: Plan, real: Measured):
        self.smooth = real.smooth_rounds()
        self.tasks = []
        for planned, task in zip(plan.tasks, real.tasks):
            ratios = {phase: task.seconds[phase] / planned[f"{phase}_s"] for phase in PHASES}
            self.tasks.append((task, ratios))
        self.rounds = {number: real.rounds[number] / plan.rounds[number] for number in plan.rounds}
        self.stalls = sum(len(task.stalled) for task in real.tasks)

    def ratios(self, *phases: str) -> list[float]:
        """Those of tasks in rounds without a stall."""
        return [ratios[phase] for task, ratios in self.tasks if task.round in self.smooth for phase in phases]

    def smooth_rounds(self) -> list[float]:
        return [ratio for number, ratio in self.rounds.items() if number in self.smooth]

    def show(self, title: str) -> None:
        stalled = len(self.rounds) - len(self.smooth)
        of_transfers = f"{self.stalls} of {2 * len(self.tasks)} transfers stalled"
        print(f"\n{title}: {len(self.tasks)} tasks, {of_transfers}, in {stalled} of {len(self.rounds)} rounds")
        print(f"  {'real / planned':<22} {'count':>6} {'lowest':>8} {'5 %':>8} {'median':>8} {'95 %':>8} {'highest':>8} {'sigma':>8}")
        for phase in PHASES:
            line(phase, self.ratios(phase))
        line("round", self.smooth_rounds())
        if stalled:
            line("round with a stall", [ratio for number, ratio in self.rounds.items() if number not in self.smooth])
            line("task, all rounds", [ratios["task"] for _, ratios in self.tasks])
        sys.stdout.flush()


def line(name: str, ratios: list[float]) -> None:
    """Prints quantiles, and the standard deviation of the logarithm around its mean."""
    if not ratios:
        return
    ordered = sorted(ratios)
    quantiles = [ordered[round(share * (len(ordered) - 1))] for share in (0, 0.05, 0.5, 0.95, 1)]
    sigma = statistics.pstdev(math.log(ratio) for ratio in ratios)
    print(f"  {name:<22} {len(ratios):>6} " + " ".join(f"{figure:>8.3f}" for figure in [*quantiles, sigma]))


def judge(what: str, ratios: list[float], within: float) -> bool:
    """Prints whether all ratios are within a tolerance of 1, which some must be there for."""
    worst = max((abs(ratio - 1) for ratio in ratios), default=math.inf)
    verdict = "met" if worst <= within else "MISSED"
    inside = sum(abs(ratio - 1) <= within for ratio in ratios)
    print(f"  target: {what} within {within:.0%}: {inside} of {len(ratios)}  {verdict}", flush=True)
    return worst <= within


def show_bands(program: str, folder: Path, options: list[str], compared: Comparison) -> None:
    """Prints in which bands a plan with noise of shares has 19 of 20 ratios, and how many of the measured ones are inside."""
    many = [*options, "--set", "rounds=200"]
    equal = Plan(program, folder.with_name(folder.name + "-equal"), many)
    noisy = Plan(program, folder.with_name(folder.name + "-noisy"), [*many, "--set", f"network_sharing=(spread: {SPREAD})"])
    for phase in ("download", "upload", "task"):
        ratios = [one[f"{phase}_s"] / other[f"{phase}_s"] for one, other in zip(noisy.tasks, equal.tasks)]
        band(phase, ratios, compared.ratios(phase))
    band("round", [noisy.rounds[number] / equal.rounds[number] for number in equal.rounds], compared.smooth_rounds())


def band(what: str, planned: list[float], real: list[float]) -> None:
    planned.sort()
    low = planned[round(0.025 * (len(planned) - 1))]
    high = planned[round(0.975 * (len(planned) - 1))]
    inside = sum(low <= ratio <= high for ratio in real)
    sigma = statistics.pstdev(math.log(ratio) for ratio in planned)
    width = f"{low:.3f} to {high:.3f} in 19 of 20, sigma {sigma:.3f}"
    print(f"  planned with spread {SPREAD}: {what:<9} {width}; {inside} of {len(real)} are inside")


def check_full(name: str, congestion: str, compared: Comparison) -> bool:
    """Compares with the targets of docs/clock.md. A miss is a failure where the plan claims to know the times: not on a shared link,
    where they depend on luck, and not with slow start that is not that of RFC 5681."""
    if name == "training":
        return judge("rounds without a stall", compared.smooth_rounds(), 0.1)
    on_time = judge("rounds without a stall", compared.smooth_rounds(), 0.03)
    if name == "tcp-own":
        return judge("downloads and uploads", compared.ratios("download", "upload"), 0.01) and on_time
    if name == "tcp-latency" and congestion != "bbr":
        return judge("downloads and uploads", compared.ratios("download", "upload"), 0.03) and on_time
    return on_time or name != "flower-own"


def check_small(name: str, compared: Comparison, wrong: Comparison) -> bool:
    """Compares what holds on a busy machine, too: the median of transfers on links of one's own, and the last download of all that
    share a link, which are planned to end together. With the wrong plan it must be off."""
    figure, within = {"tcp-own": ("median of downloads and uploads", 0.02), "tcp-shared": ("last download", 0.15)}[name]

    def middle(of: Comparison) -> float:
        ratios = of.ratios("download", "upload") if name == "tcp-own" else [max(of.ratios("download"), default=math.nan)]
        return statistics.median(ratios) if ratios else math.nan

    met = abs(middle(compared) - 1) <= within
    is_sharp = not abs(middle(wrong) - 1) <= within
    said = "met" if met else "MISSED"
    found = "which is found" if is_sharp else "WHICH IS NOT FOUND"
    print(f"  {figure} within {within:.0%}: {said}; of a wrong plan it is {middle(wrong):.3f}, {found}", flush=True)
    return met and is_sharp


def write(file: Path, name: str, congestion: str, compared: Comparison) -> None:
    """Appends the tasks of a comparison to a CSV file."""
    is_new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.writer(lines)
        if is_new:
            writer.writerow(["setting", "congestion_control", "client", "round", *(f"{phase}_ratio" for phase in PHASES), "stalled"])
        for task, ratios in compared.tasks:
            writer.writerow([name, congestion, task.client, task.round, *(ratios[phase] for phase in PHASES), "+".join(task.stalled)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/clock/check", description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--program", default="target/release/fedreplay")
    parser.add_argument("--small", action="store_true", help="plain TCP, one round: about 25 seconds")
    parser.add_argument("--only", action="append", choices=[*SETTINGS, "training"], help="only this setting; may be repeated")
    parser.add_argument("--congestion", action="append", help="congestion control; may be repeated [default: the machine's, and cubic]")
    parser.add_argument("--seed", default="1", help="seed of the plan")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change of the scenario; may be repeated")
    parser.add_argument("--profile", type=Path, help="profile of this machine, of two trainings at a time with one thread each, for training")
    parser.add_argument("--csv", type=Path, help="file to which the ratios of all tasks are appended")
    asked = parser.parse_args()
    if asked.small and set(asked.only or []) - set(WRONG):
        parser.error(f"--small has {' and '.join(WRONG)}")
    if "training" in (asked.only or []) and not asked.profile:
        parser.error("training is planned by a profile of this machine: --profile")
    return asked


def congestion_controls(asked: argparse.Namespace) -> list[str]:
    """Those to compare: the machine's, and cubic in the whole form."""
    folder = Path("/proc/sys/net/ipv4")
    default = (folder / "tcp_congestion_control").read_text().strip()
    there = (folder / "tcp_available_congestion_control").read_text().split()
    wanted = asked.congestion or [default]
    if "cubic" in there and "cubic" not in wanted and not asked.small and not asked.congestion:
        wanted.append("cubic")
    print(f"congestion control: {', '.join(wanted)} (of {', '.join(there)}; {default} is this machine's default)")
    return wanted


def main() -> None:
    asked = arguments()
    wanted = congestion_controls(asked)
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    options = ["--seed", asked.seed, *(SMALL if asked.small else [])]
    for change in asked.set:
        options += ["--set", change]
    # Real-time priority, which the other processes inherit: they compute next to nothing, and other work should not delay them.
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("without real-time priority, so other work on this machine delays what is measured")
    met = True
    for congestion in wanted:
        for name in asked.only or (WRONG if asked.small else SETTINGS):
            met &= check(asked, name, congestion, options)
    sys.exit(0 if met else 1)


def check(asked: argparse.Namespace, name: str, congestion: str, options: list[str]) -> bool:
    """Runs one setting and judges it; the small form tries again if it fails."""
    wire, changes = SETTINGS.get(name, TRAINING)
    scenario = SCENARIO
    if name == "training":
        scenario = SCENARIO_OF_TRAINING
        changes = ["--set", f'population.devices.this=(profile: "{asked.profile.resolve()}")']
    folder = asked.work / f"{name}-{congestion}"
    plan = Plan(asked.program, folder, [*changes, *options], scenario)
    for attempt in range(ATTEMPTS):
        real = federate(plan, wire, congestion)
        compared = Comparison(plan, real)
        compared.show(f"{name}, {congestion}")
        if asked.csv:
            write(asked.csv, name, congestion, compared)
        if not asked.small:
            if name.endswith("shared"):
                show_bands(asked.program, folder, [*changes, *options], compared)
            return check_full(name, congestion, compared)
        wrong = Plan(asked.program, folder.with_name(f"{folder.name}-{attempt}"), [*changes, *options, *WRONG[name]])
        if check_small(name, compared, Comparison(wrong, real)):
            return True
    return False


# As the first process of its namespace it would ignore what it has no handler for. The others end with it.
for asked_to_end in (signal.SIGINT, signal.SIGTERM):
    signal.signal(asked_to_end, lambda number, _: sys.exit(128 + number))
main()
