"""Server and client of the federation whose clock tools/clock/check.py compares: processes that move bytes, and sleep or train.

    federation.py WIRE TASKS server ADDRESS
    federation.py WIRE TASKS CLIENT ADDRESS

WIRE is `tcp` (one connection for each client, nothing but the messages), `lora` (the same with adapters that are trained, lora.py) or
`flower` (`start_server` and `start_client`). TASKS is a JSON list of the tasks of a plan; CLIENT a client's index in it. What happens is written to stdout, as one JSON list on each line:

    ["opened", round, seconds]                the server begins a round
    ["closed", round, seconds]                the last update of the round has arrived
    ["dispatched", client, round, seconds]    the server begins to send; "arrived": it has received the client's whole update
    ["received", client, round, seconds]      the client has its whole message; "trained": it begins to send

Seconds are those of the machine's monotonic clock, which all network namespaces share.
"""

import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PORT = 5000


def log(what: str, *key: int) -> None:
    """Writes an event with its instant."""
    now = time.monotonic()
    sys.stdout.write(json.dumps([what, *key, now]) + "\n")
    sys.stdout.flush()


def by_round(tasks: list[dict]) -> dict[int, list[dict]]:
    rounds: dict[int, list[dict]] = {}
    for task in tasks:
        rounds.setdefault(task["round"], []).append(task)
    return rounds


class Sleeping:
    """Messages without content, and training that is a sleep."""

    def message(self, task: dict) -> bytes:
        return bytes(task["bytes_down"])

    def train(self, task: dict, message: bytes) -> bytes:
        time.sleep(task["training_s"])
        return bytes(task["bytes_up"])

    def aggregate(self, updates: list[bytes]) -> None:
        pass


def receive(connection: socket.socket, size: int) -> bytearray:
    message = bytearray(size)
    view = memoryview(message)
    while view:
        count = connection.recv_into(view[: 1 << 18])
        if count == 0:
            raise ConnectionError("the other side has closed the connection")
        view = view[count:]
    return message


def serve_tcp(tasks: list[dict], address: str, model: Sleeping) -> None:
    clients = {task["client"] for task in tasks}
    listener = socket.create_server((address, PORT), backlog=len(clients))
    connections = {}
    for _ in clients:
        connection, _ = listener.accept()
        connections[struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))[0]] = connection

    def exchange(task: dict) -> bytes:
        connection = connections[task["client"]]
        message = model.message(task)
        log("dispatched", task["client"], task["round"])
        connection.sendall(message)
        update = receive(connection, task["bytes_up"])
        log("arrived", task["client"], task["round"])
        return update

    with ThreadPoolExecutor(len(clients)) as pool:
        for number, of_round in by_round(tasks).items():
            log("opened", number)
            updates = list(pool.map(exchange, of_round))
            log("closed", number)
            model.aggregate(updates)


def connect(address: str) -> socket.socket:
    """Connects as soon as the server listens."""
    for _ in range(600):
        try:
            return socket.create_connection((address, PORT))
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise ConnectionError("the server has not begun to listen within a minute")


def take_part_tcp(tasks: list[dict], client: int, address: str, model: Sleeping) -> None:
    connection = connect(address)
    connection.sendall(struct.pack("!I", client))
    for task in tasks:
        if task["client"] == client:
            message = receive(connection, task["bytes_down"])
            log("received", client, task["round"])
            update = model.train(task, message)
            log("trained", client, task["round"])
            connection.sendall(update)
    # The server closes when it has everything.
    connection.recv(1)


def serve_flower(tasks: list[dict], address: str) -> None:
    from flwr.common import FitIns, Parameters
    from flwr.server import Server, ServerConfig, SimpleClientManager, start_server
    from flwr.server.strategy import FedAvg

    rounds = by_round(tasks)

    class Dispatched:
        """A client as Flower's server sees it, whose exchange is timed."""

        def __init__(self, proxy):
            self.proxy = proxy

        def fit(self, ins, timeout, group_id):
            began = time.monotonic()
            answer = self.proxy.fit(ins, timeout, group_id)
            ended = time.monotonic()
            # The answer says which client this was.
            for what, at in (("dispatched", began), ("arrived", ended)):
                sys.stdout.write(json.dumps([what, answer.metrics["client"], ins.config["round"], at]) + "\n")
            sys.stdout.flush()
            return answer

    class Timed(FedAvg):
        """Sends each client the bytes of its task, and aggregates nothing."""

        def configure_fit(self, server_round, parameters, client_manager):
            client_manager.wait_for(len(rounds[server_round]))
            of_round = rounds[server_round]
            log("opened", server_round)
            sent = Parameters(tensors=[bytes(of_round[0]["bytes_down"])], tensor_type="bytes")
            return [(Dispatched(proxy), FitIns(sent, {"round": server_round})) for proxy in client_manager.all().values()]

        def aggregate_fit(self, server_round, results, failures):
            log("closed", server_round)
            if failures:
                raise RuntimeError(f"round {server_round}: {failures[0]}")
            return None, {}

        def configure_evaluate(self, server_round, parameters, client_manager):
            return []

    strategy = Timed(initial_parameters=Parameters(tensors=[], tensor_type="bytes"))
    server = Server(client_manager=SimpleClientManager(), strategy=strategy)
    # Without this, Flower has four more exchanges at a time than the machine has cores, and the others wait.
    server.set_max_workers(max(len(of_round) for of_round in rounds.values()))
    start_server(server_address=f"{address}:{PORT}", server=server, config=ServerConfig(num_rounds=len(rounds)))


def take_part_flower(tasks: list[dict], client: int, address: str) -> None:
    from flwr.client import Client, start_client
    from flwr.common import Code, FitRes, Parameters, Status

    own = {task["round"]: task for task in tasks if task["client"] == client}

    class Sleeper(Client):
        def fit(self, ins):
            task = own[ins.config["round"]]
            log("received", client, task["round"])
            time.sleep(task["training_s"])
            log("trained", client, task["round"])
            sent = Parameters(tensors=[bytes(task["bytes_up"])], tensor_type="bytes")
            return FitRes(Status(Code.OK, ""), sent, 1, {"client": client})

    # The server may not listen yet, and its file is not there before.
    connect(address).close()
    start_client(server_address=f"{address}:{PORT}", client=Sleeper())


def main() -> None:
    wire, file, role, address = sys.argv[1:]
    tasks = json.loads(Path(file).read_text())
    client = None if role == "server" else int(role)
    if wire == "flower":
        logging.getLogger("flwr").setLevel(logging.ERROR)
        return serve_flower(tasks, address) if client is None else take_part_flower(tasks, client, address)
    model = Sleeping()
    if wire == "lora":
        import lora

        model = lora.Server(tasks) if client is None else lora.Client(tasks, client)
    return serve_tcp(tasks, address, model) if client is None else take_part_tcp(tasks, client, address, model)


main()
