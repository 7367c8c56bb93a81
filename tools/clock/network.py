"""Network namespaces of a server and its clients, on links that `tc tbf` shapes in both directions.

Two switches stand for the network: one has the server's port, the other those of the clients, and a cable between them is the server's
link. Where links are shaped:

    to a client          the switch's port to it
    from a client        the client's own interface
    to all clients       the cable's end at the server's switch, if the server's link is narrower than the clients' together
    from all clients     the cable's other end, likewise

Where a link has latency, a relay (a process with two TAP devices) is between the switch and the client and carries each frame after
that time, as `tc netem` would if every kernel had it.

All of this is made in the network namespace of the calling process, which is expected to be one of its own.
"""

import fcntl
import multiprocessing
import os
import queue
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

# A bucket of some packets: what it holds passes above the rate after a pause, 0.1 % of a message of 5 MB, and what is added
# to it while it is full is lost. It is filled in 1.6 ms at 40 Mbit/s, which is far more than a timer is late.
BURST = 8_000
# Packets wait in a queue of at most 100 ms at 20 Mbit/s. What comes in addition is dropped.
QUEUE = 250_000
# Seconds without a packet's worth of bytes on the link of a client that is transferring: a stall.
STALL = 1.0
PACKET = 1514


@dataclass
class Link:
    """Capacities of a link, from the server's side [bit/s], and its latency in one direction [s]."""

    down: float
    up: float
    latency: float = 0.0


def run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {command}: {done.stderr.strip()}")


def shape(prefix: str, device: str, rate: float) -> None:
    run(f"{prefix}tc qdisc add dev {device} root tbf rate {rate:.0f}bit burst {BURST} limit {QUEUE}")


def address(client: int | None) -> str:
    return "10.0.0.1" if client is None else f"10.0.1.{client + 1}"


def namespace(client: int | None) -> str:
    return "server" if client is None else f"client{client}"


def tap(name: str) -> int:
    """Makes a TAP device. What is sent to the device is read from the file descriptor, and the reverse."""
    opened = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF with IFF_TAP and IFF_NO_PI.
    fcntl.ioctl(opened, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    return opened


def carry(source: int, sink: int, latency: float) -> None:
    """Carries frames from one device to another, each after its latency."""
    frames: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def take() -> None:
        while True:
            frame = os.read(source, 1 << 16)
            frames.put((time.monotonic() + latency, frame))

    threading.Thread(target=take, daemon=True).start()
    while True:
        due, frame = frames.get()
        time.sleep(max(0.0, due - time.monotonic()))
        os.write(sink, frame)


def relay(near: int, far: int, latency: float) -> None:
    """Carries frames in both directions."""
    threading.Thread(target=carry, args=(far, near, latency), daemon=True).start()
    carry(near, far, latency)


def connect(port: str, name: str, latency: float) -> multiprocessing.Process | None:
    """Connects a port with the interface `eth0` of a namespace, by a relay if there is latency."""
    if latency == 0:
        run(f"ip link add {port} type veth peer name eth0 netns {name}")
        return None
    near = tap(port)
    far = tap("far0")
    run(f"ip link set far0 netns {name} name eth0")
    process = multiprocessing.get_context("fork").Process(target=relay, args=(near, far, latency), daemon=True)
    process.start()
    os.close(near)
    os.close(far)
    return process


def join(client: int | None, switch: str, port: str, congestion: str, latency: float = 0.0) -> multiprocessing.Process | None:
    """Adds the namespace of the server or of a client, with a port of a switch. Returns the relay between them."""
    name = namespace(client)
    run(f"ip netns add {name}")
    process = connect(port, name, latency)
    run(f"ip link set {port} master {switch} up")
    run(f"ip -n {name} address add {address(client)}/16 dev eth0")
    run(f"ip -n {name} link set eth0 up")
    # By its route: the setting of a namespace takes no congestion control that the machine has not allowed.
    run(f"ip -n {name} route change 10.0.0.0/16 dev eth0 src {address(client)} congctl {congestion}")
    return process


def build(server: Link, clients: list[Link], congestion: str) -> list[multiprocessing.Process]:
    """Builds the network. Returns its relays."""
    for switch in ("near", "far"):
        run(f"ip link add {switch} type bridge")
        run(f"ip link set {switch} up")
    run("ip link add cable0 type veth peer name cable1")
    run("ip link set cable0 master near up")
    run("ip link set cable1 master far up")
    if server.down < sum(client.down for client in clients):
        shape("", "cable0", server.down)
    if server.up < sum(client.up for client in clients):
        shape("", "cable1", server.up)
    join(None, "near", "server", congestion)
    relays = []
    for number, client in enumerate(clients):
        relays.append(join(number, "far", f"c{number}", congestion, client.latency))
        shape("", f"c{number}", client.down)
        shape(f"ip netns exec {namespace(number)} ", "eth0", client.up)
    return [process for process in relays if process]


def tear_down(clients: list[Link], relays: list[multiprocessing.Process]) -> None:
    """Removes the network, so that another can be built. TAP devices end with their relay, and what a namespace holds some time
    after it, so links are deleted before."""
    for process in relays:
        process.kill()
        process.join()
    ports = [f"c{number}" for number, client in enumerate(clients) if client.latency == 0]
    for link in ["server", *ports, "cable0", "near", "far"]:
        run(f"ip link delete {link}")
    for client in [None, *range(len(clients))]:
        run(f"ip netns delete {namespace(client)}")


class Watch(threading.Thread):
    """Notes when the links of clients carry nothing, from the counters of the switch's ports."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        # Direction and client: spans of at least STALL without a packet's worth of bytes, the last one unfinished.
        self.silences: dict[tuple[str, int], list[tuple[float, float]]] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        last: dict[tuple[str, int], tuple[int, float]] = {}
        while not self.is_over.wait(0.05):
            now = time.monotonic()
            for key, count in counters().items():
                before, since = last.setdefault(key, (count, now))
                if count - before < PACKET:
                    continue
                if now - since >= STALL:
                    self.silences.setdefault(key, []).append((since, now))
                last[key] = (count, now)

    def stalled(self, way: str, client: int, begins: float, ends: float) -> bool:
        """Whether the client's link carried nothing for STALL within a transfer."""
        spans = self.silences.get((way, client), [])
        return any(min(until, ends) - max(since, begins) >= STALL for since, until in spans)


def counters() -> dict[tuple[str, int], int]:
    """Bytes that the switch has sent to and received from each client."""
    found = {}
    with open("/proc/self/net/dev") as lines:
        for line in lines:
            name, _, figures = line.partition(":")
            name = name.strip()
            if name.startswith("c") and name[1:].isdigit():
                received, sent = int(figures.split()[0]), int(figures.split()[8])
                found["down", int(name[1:])] = sent
                found["up", int(name[1:])] = received
    return found
