"""Runs an aggregation rule: reads requests from standard input and writes replies to standard output.

A message is the length of its header (8 bytes, little-endian), the header in JSON, and as many bytes as its `bytes` says.
"""

import builtins
import dis
import inspect
import json
import os
import platform
import queue
import sys
import tempfile
import threading
import traceback
import types

RULE = "aggregate"
TEXT_MOST = 8000

requests = queue.Queue()
source, replies = os.dup(0), os.dup(1)


class Fault(Exception):
    """Something that is wrong with the rule."""


class NoPython(Exception):
    """Something that is wrong with this Python."""


def exactly(count):
    parts = []
    while count:
        part = os.read(source, min(count, 1 << 20))
        if not part:
            os._exit(0)  # The run has ended, whatever the rule is doing.
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive():
    while True:
        header = json.loads(exactly(int.from_bytes(exactly(8), "little")))
        requests.put((header, exactly(header["bytes"])))


def reply(header, payload=b""):
    header = json.dumps({**header, "bytes": len(payload)}).encode()
    for part in (len(header).to_bytes(8, "little"), header, payload):
        view = memoryview(part)
        while view:
            view = view[os.write(replies, view) :]


def instructions(code):
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from instructions(constant)


def is_constant(value):
    if isinstance(value, tuple):
        return all(map(is_constant, value))
    return value is None or isinstance(value, (bool, int, float, str, bytes))


def check_names(function, names, checked):
    """Refuses what would keep a value from call to call: names other than modules and functions of the file."""
    if function in checked:
        return
    checked.add(function)
    told = f"`{function.__name__}`"
    for value in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
        if not is_constant(value):
            raise Fault(f"{told} has a default that is no constant, which would be kept from call to call: {value!r:.100}")
    if function.__closure__:
        raise Fault(f"{told} reads variables of another function")
    for step in instructions(function.__code__):
        name = step.argval
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            raise Fault(f"{told} sets the name `{name}` of the file; what it has to remember is returned as state")
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME"):
            continue
        value = names.get(name, builtins.__dict__.get(name, names))
        if value is names:
            raise Fault(f"{told} reads the name `{name}`, which is defined nowhere")
        if isinstance(value, types.FunctionType) and value.__globals__ is names:
            check_names(value, names, checked)
        elif name in names and not isinstance(value, types.ModuleType):
            raise Fault(
                f"{told} reads the name `{name}`, which is neither a module nor a function of the file; "
                "give it as one of `parameters`, or keep it in the state"
            )


def packages(numpy):
    """Returns the versions of what the rule has imported."""
    from importlib import metadata

    found = {"numpy": numpy.__version__}
    roots = {name.partition(".")[0] for name in sys.modules}
    others = roots - set(sys.stdlib_module_names) - {"numpy", "__main__", "__mp_main__"} - known
    owners = metadata.packages_distributions() if others else {}
    for name in sorted(others):
        if getattr(sys.modules.get(name), "__file__", None) is None and name not in owners:
            continue
        if name not in owners:
            raise Fault(f"it imports `{name}`, which is of no installed package, so that its version is not known")
        for owner in owners[name]:
            found[owner] = metadata.version(owner)
    return found


def environment(numpy):
    build = numpy.show_config(mode="dicts") or {}
    blas = build.get("Build Dependencies", {}).get("blas", {})
    core = getattr(numpy, "_core", None) or numpy.core
    features = core._multiarray_umath.__cpu_features__
    return {
        "python": sys.version,
        "implementation": platform.python_implementation(),
        "packages": packages(numpy),
        "blas": {key: blas.get(key) for key in ("name", "version", "openblas configuration")},
        "processor": [platform.machine(), *sorted(name for name, is_there in features.items() if is_there)],
    }


class Rule:
    def __init__(self, header, payload):
        if sys.version_info < (3, 10):
            raise NoPython(f"{sys.executable} is version {platform.python_version()}, and rules need 3.10 or later")
        try:
            import numpy
        except ImportError as error:
            raise NoPython(f"{sys.executable} cannot import numpy: {error}") from None
        self.numpy, self.file, self.parameters = numpy, header["file"], header["parameters"]
        names = {"__name__": "rule", "__file__": self.file}
        exec(compile(payload, self.file, "exec"), names)
        self.function = names.get(RULE)
        if not isinstance(self.function, types.FunctionType):
            raise Fault(f"it has no function `{RULE}`")
        check_names(self.function, names, set())
        try:
            inspect.signature(self.function).bind(*range(6), **self.parameters)
        except TypeError as error:
            given = ", ".join(["server", "updates", "weights", "ranks", "staleness", "state", *self.parameters])
            raise Fault(f"`{RULE}` does not take ({given}): {error}") from None

    def call(self, header, payload):
        numpy = self.numpy
        values = numpy.frombuffer(payload, "<f8", header["values"])
        # Of the server, then of each update.
        adapters = []
        for adapter in values.reshape(1 + len(header["weights"]), -1):
            matrices, start = {}, 0
            for name, shape in header["tensors"]:
                count = shape[0] * shape[1]
                matrices[name] = adapter[start : start + count].reshape(shape).copy()
                start += count
            adapters.append(matrices)
        state = self.read_state(payload[values.nbytes :])
        weights = numpy.array(header["weights"], "f8")
        ranks = numpy.array(header["ranks"], "i8")
        staleness = numpy.array(header["staleness"], "i8")
        result = self.function(adapters[0], adapters[1:], weights, ranks, staleness, state, **self.parameters)
        return self.read_result(header["tensors"], result)

    def read_state(self, stored):
        """Reads a state as `state_bytes` has written it; no bytes are the state before the first call."""
        state = {}
        if not stored:
            return state
        start = 8 + int.from_bytes(stored[:8], "little")
        for name, kind, shape in json.loads(stored[8:start]):
            array = self.numpy.zeros(shape, kind)
            if array.size:
                array = self.numpy.frombuffer(stored, kind, array.size, start).reshape(shape).copy()
            state[name] = array
            start += array.nbytes
        return state

    def state_bytes(self, state):
        if state is not None and not isinstance(state, dict):
            raise Fault(f"the state that it returned is {told(state)}, and must be a dict of arrays, or None")
        if not state:
            return b""
        kinds, parts = [], []
        for name, value in state.items():
            if not isinstance(name, str):
                raise Fault(f"the state that it returned has the key {name!r:.200}, which is no text")
            array = self.array(value, f"{name!r} of the state that it returned")
            array = array.astype(array.dtype.newbyteorder("<"))
            kinds.append([name, array.dtype.str, list(array.shape)])
            parts.append(array.tobytes())
        kinds = json.dumps(kinds).encode()
        return b"".join([len(kinds).to_bytes(8, "little"), kinds, *parts])

    def read_result(self, tensors, result):
        if not isinstance(result, tuple) or len(result) != 2:
            raise Fault(f"it returned {told(result)}, and must return the pair (adapter, state)")
        adapter, state = result
        if not isinstance(adapter, dict):
            raise Fault(f"the adapter that it returned is {told(adapter)}, and must be a dict of arrays like `server`")
        wanted = {name for name, _ in tensors}
        for name in adapter:
            if name not in wanted:
                raise Fault(f"the adapter that it returned has {name!r:.200}, which `server` does not have")
        parts = []
        for name, shape in tensors:
            if name not in adapter:
                raise Fault(f"the adapter that it returned lacks {name}")
            array = self.array(adapter[name], f"{name} of the adapter that it returned")
            if list(array.shape) != shape:
                raise Fault(f"{name} of the adapter that it returned has the shape {array.shape}, not {tuple(shape)}")
            array = array.astype("<f8")
            if not self.numpy.isfinite(array).all():
                raise Fault(f"{name} of the adapter that it returned is not finite")
            parts.append(array.tobytes())
        return {"values": sum(map(len, parts))}, b"".join([*parts, self.state_bytes(state)])

    def array(self, value, what):
        try:
            array = self.numpy.asarray(value)
        except ValueError as error:
            raise Fault(f"{what} is no array: {error}") from None
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise Fault(f"{what} is {told(value)} of the type {array.dtype}, and must be an array of numbers")
        return array


def told(value):
    if value is None:
        return "nothing (None)"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"of the type {type(value).__name__}"


def frames(error):
    """Returns the traceback without the frames of this program."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == main.__code__.co_filename:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).strip()[-TEXT_MOST:]


def printed(sink):
    for stream in (sys.stdout, sys.__stdout__):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass
    return os.pread(sink, 200, 0).decode(errors="replace")


def main():
    global known
    known = {name.partition(".")[0] for name in sys.modules}
    # What a rule writes to standard output goes to a file, and it reads an empty standard input.
    with tempfile.TemporaryFile() as file:
        sink = os.dup(file.fileno())
    os.dup2(sink, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:] = [folder for folder in sys.path if folder]
    threading.Thread(target=receive, daemon=True).start()
    rule = None
    while True:
        header, payload = requests.get()
        try:
            if rule is None:
                rule = Rule(header, payload)
                answer = {"environment": environment(rule.numpy)}, b""
            else:
                answer = rule.call(header, payload)
            if text := printed(sink):
                raise Fault(f"it writes to standard output, which is the run's ({text!r}); sys.stderr is free")
        except NoPython as error:
            answer = {"no_python": str(error)}, b""
        except Fault as error:
            answer = {"fault": str(error)}, b""
        except BaseException as error:
            answer = {"fault": frames(error)}, b""
        reply(*answer)


main()
