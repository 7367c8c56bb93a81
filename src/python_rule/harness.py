"""Runs an aggregation rule: reads requests from standard input and writes replies to standard output.

A message is the length of its header (8 bytes, little-endian), the header in JSON, and as many bytes as its `bytes` says.
The first request has the text of the rule; each later one is a call. A call is computed by a fork of the process as it was after
loading, so that nothing is kept from call to call but the state that the rule returns.
"""

import builtins
import ctypes
import dis
import functools
import hashlib
import inspect
import json
import os
import platform
import queue
import signal
import sys
import sysconfig
import tempfile
import threading
import traceback
import types

RULE = "aggregate"
TEXT_MOST = 8000
PR_SET_PDEATHSIG = 1

requests = queue.Queue()
source, replies = os.dup(0), os.dup(1)
at_start = set(sys.modules)


class Fault(Exception):
    """Something that is wrong with the rule."""


class NoPython(Exception):
    """Something that is wrong with this Python."""


def exactly(count):
    data = bytearray(count)
    view = memoryview(data)
    while view:
        read = os.readv(source, [view])
        if not read:
            # The run has ended: so do the rule and what it has started.
            os.killpg(0, signal.SIGKILL)
        view = view[read:]
    return data


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


def instructions(code, line=None, stored=()):
    """Yields the instructions of a function and of what is defined in it, with their lines and the names of the class around them."""
    for step in dis.get_instructions(code):
        starts = getattr(step, "line_number", None) or step.starts_line
        line = starts if isinstance(starts, int) and not isinstance(starts, bool) else line
        yield step, line, stored
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            # The body of a class reads and stores names of its own.
            own = {step.argval for step in dis.get_instructions(constant) if step.opname == "STORE_NAME"}
            yield from instructions(constant, line, {*own, "__name__", "__qualname__", "__module__"} if own else ())


def is_constant(value):
    if isinstance(value, tuple):
        return all(map(is_constant, value))
    is_type = isinstance(value, type) and value.__module__ == "builtins"
    return is_type or value is None or isinstance(value, (bool, int, float, str, bytes))


def check_names(function, names, checked):
    """Refuses names other than modules and functions of the file, whose values would be in no key or kept from call to call."""
    if function in checked:
        return
    checked.add(function)
    told = f"`{function.__name__}` (line {function.__code__.co_firstlineno})"
    for value in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
        if not is_constant(value):
            raise Fault(f"{told} has a default that is no constant, which would be kept from call to call: {value!r:.100}")
    if function.__closure__:
        raise Fault(f"{told} is decorated, or reads variables of another function")
    for step, line, stored in instructions(function.__code__):
        name = step.argval
        place = f"line {line}: {told}"
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            raise Fault(f"{place} sets the name `{name}` of the file; what it has to remember is returned as state")
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") or name in stored:
            continue
        value = names.get(name, builtins.__dict__.get(name, names))
        if value is names:
            raise Fault(f"{place} reads the name `{name}`, which is defined nowhere")
        if isinstance(value, types.FunctionType) and value.__globals__ is names:
            check_names(value, names, checked)
        elif name in names and not isinstance(value, types.ModuleType):
            module = getattr(value, "__module__", None)
            if callable(value) and isinstance(module, str) and module not in ("rule", "builtins"):
                advice = f"import the module, and write it before the name ({module}.{name})"
            else:
                advice = "give it as one of `parameters`, define it in the function, or keep it in the state"
            raise Fault(f"{place} reads the name `{name}`, which is neither a module nor a function of the file; {advice}")


def content_hash(file):
    try:
        with open(file, "rb") as content:
            return hashlib.blake2b(content.read(), digest_size=8).hexdigest()
    except OSError:
        return "(no file)"


@functools.cache
def installed():
    """Returns the installed packages, each with the first parts of the paths of its files."""
    from importlib import metadata

    found = []
    for package in metadata.distributions():
        # The list of files as text: to parse it takes seconds for large packages.
        files = package.read_text("RECORD") or package.read_text("installed-files.txt") or ""
        found.append((package, {line.partition("/")[0].partition(".")[0].partition(",")[0] for line in files.splitlines()}))
    return found


@functools.cache
def owner(first):
    """Returns name and version of the installed package with this first part in the paths of its files, if there is one."""
    for package, parts in installed():
        if first in parts:
            return package.metadata["Name"], package.version
    return None


def packages(numpy):
    """Returns the versions of all that has been imported besides Python's own modules."""
    paths = sysconfig.get_paths()
    standard = {os.path.realpath(paths[name]) for name in ("stdlib", "platstdlib")}
    found = {"numpy": numpy.__version__}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "rule":
            continue
        file = os.path.realpath(file)
        parts = file.split(os.sep)
        sites = [place for place, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
        if sites:
            first = parts[sites[-1] + 1].partition(".")[0]
            if first == "numpy":
                continue
            if package := owner(first):
                found[package[0]] = package[1]
                continue
        elif any(file.startswith(folder + os.sep) for folder in standard):
            continue
        if name not in at_start:
            raise Fault(f"it imports `{name}` from {file}, which is of no installed package, so that its version is not known")
        # What the host loads into each Python: by its content.
        found[name] = content_hash(file)
    return found


def libraries():
    """Yields the libraries for linear algebra that are loaded, by their content, with the kernels that OpenBLAS has chosen."""
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line}
    for file in sorted(files):
        name = os.path.basename(file)
        if not any(part in name.lower() for part in ("blas", "mkl", "lapack")):
            continue
        found = f"{name} {content_hash(file)}"
        for symbol in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            core = getattr(ctypes.CDLL(file), symbol, None)
            if core is not None:
                core.restype = ctypes.c_char_p
                found += " " + core().decode()
                break
        yield found


def environment(numpy):
    core = getattr(numpy, "_core", None) or numpy.core
    features = core._multiarray_umath.__cpu_features__
    return {
        "python": f"{platform.python_implementation()} {sys.version}",
        "packages": ", ".join(f"{name} {version}" for name, version in packages(numpy).items()),
        "libraries": ", ".join([" ".join(platform.libc_ver()), *libraries()]),
        "processor": " ".join([platform.machine(), *sorted(name for name, is_there in features.items() if is_there)]),
    }


class Rule:
    def __init__(self, header, payload):
        # numpy is loaded before the rule, so that a rule cannot put its own in the place.
        if sys.version_info < (3, 10):
            raise NoPython(f"{sys.executable} is version {platform.python_version()}, and rules need 3.10 or later")
        try:
            import numpy
        except ImportError as error:
            raise NoPython(f"{sys.executable} cannot import numpy: {error}") from None
        if tuple(int(part) for part in numpy.__version__.split(".")[:2]) < (1, 25):
            raise NoPython(f"{sys.executable} has numpy {numpy.__version__}, and rules need 1.25 or later")
        self.numpy, self.file, self.parameters = numpy, header["file"], header["parameters"]
        module = types.ModuleType("rule")
        module.__file__ = self.file
        sys.modules["rule"] = module
        names = module.__dict__
        exec(compile(bytes(payload), self.file, "exec", dont_inherit=True), names)
        self.function = names.get(RULE)
        if not isinstance(self.function, types.FunctionType):
            raise Fault(f"it has no function `{RULE}`")
        check_names(self.function, names, set())
        try:
            inspect.signature(self.function).bind(*range(6), **self.parameters)
        except TypeError as error:
            given = ", ".join(["server", "updates", "weights", "ranks", "staleness", "state", *self.parameters])
            raise Fault(f"`{RULE}` does not take ({given}): {error}") from None
        self.environment = environment(numpy)
        self.modules, self.packages = set(sys.modules), packages(numpy)

    def call(self, header, payload):
        numpy = self.numpy
        values = numpy.frombuffer(payload, "<f8", header["values"])
        # Of the server, then of each update. They are views of the request, which nobody else reads.
        adapters = []
        for adapter in values.reshape(1 + len(header["weights"]), -1):
            matrices, start = {}, 0
            for name, shape in header["tensors"]:
                count = shape[0] * shape[1]
                matrices[name] = adapter[start : start + count].reshape(shape)
                start += count
            adapters.append(matrices)
        state = self.read_state(memoryview(payload)[values.nbytes :])
        weights = numpy.array(header["weights"], "f8")
        ranks = numpy.array(header["ranks"], "i8")
        staleness = numpy.array(header["staleness"], "i8")
        result = self.function(adapters[0], adapters[1:], weights, ranks, staleness, state, **self.parameters)
        answer = self.read_result(header["tensors"], result)
        if set(sys.modules) != self.modules and packages(numpy) != self.packages:
            raise Fault(f"`{RULE}` imports packages, whose versions are then in no key; import them at the top of the file")
        return answer

    def read_state(self, stored):
        """Reads a state as `state_bytes` has written it; no bytes are the state before the first call."""
        state = {}
        if not len(stored):
            return state
        start = 8 + int.from_bytes(stored[:8], "little")
        for name, kind, shape in json.loads(bytes(stored[8:start])):
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
        is_plain = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
        if not is_plain or isinstance(value, self.numpy.ma.MaskedArray):
            raise Fault(f"{what} is {told(value)} with elements of {array.dtype}, and must be an array of numbers")
        return array


def told(value):
    if value is None:
        return "nothing (None)"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a value of the type {type(value).__name__}"


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


def answer(sink, compute):
    """Returns what `compute` returns, or what was wrong with it."""
    try:
        found = compute()
        if text := printed(sink):
            raise Fault(f"it writes to standard output, which is the run's ({text!r}); sys.stderr is free")
        return found
    except NoPython as error:
        return {"no_python": str(error)}, b""
    except Fault as error:
        return {"fault": str(error)}, b""
    except BaseException as error:
        return {"fault": frames(error)}, b""


def load(header, payload):
    global rule
    rule = Rule(header, payload)
    return {"environment": rule.environment}, b""


def call(sink, parent, header, payload):
    """Computes a call in a fork of this process."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            reply(*answer(sink, lambda: rule.call(header, payload)))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        # It has not replied: this process ends like it.
        os.kill(parent, -status) if status < 0 else os._exit(status)


def main():
    # The program that starts this one blocks signals, and processes inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # What a rule writes to standard output goes to a file, and it reads an empty standard input.
    with tempfile.TemporaryFile() as file:
        sink = os.dup(file.fileno())
    os.dup2(sink, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:] = [folder for folder in sys.path if folder]
    threading.Thread(target=receive, daemon=True).start()
    header, payload = requests.get()
    reply(*answer(sink, lambda: load(header, payload)))
    del header, payload
    while True:
        call(sink, os.getpid(), *requests.get())


main()
