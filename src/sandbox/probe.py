# Tries what the sandbox must forbid, as a sample would, and fails with a list of what it could do.
import os
import socket

loose = []


def forbidden(what, attempt):
    try:
        attempt()
    except (OSError, MemoryError):
        return
    loose.append(what)


def connect():
    socket.create_connection(("127.0.0.1", HOST_PORT), timeout=2).close()


def send_far():
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.connect(("192.0.2.1", 9))


def write_long():
    with open("long", "wb") as file:
        for _ in range(FILE_BYTES // 65536 + 2):
            file.write(bytes(65536))


def fork_many():
    ours = os.pipe()
    for _ in range(PROCESSES + 1):
        if os.fork() == 0:
            os.close(ours[1])
            os.read(ours[0], 1)
            os._exit(0)


def keep_unnamed_file():
    os.close(os.memfd_create("probe"))


def keep_segment():
    try:
        import ctypes
    except ImportError:
        # Without it, no Python program makes this call.
        raise OSError
    if ctypes.CDLL(None).shmget(0, 65536, 0o1600) == -1:
        raise OSError


forbidden("the network of the host can be reached", connect)
forbidden("there is a way to other networks", send_far)
forbidden("files of the host can be read", lambda: open(HOST_FILE).read())
forbidden("processes of the host can be seen", lambda: os.listdir("/proc"))
forbidden("the interpreter's folder can be written", lambda: open("/usr/fedreplay-probe", "w"))
forbidden("the sample has the rights of root", lambda: os.chroot("/"))
forbidden("files may be of any size", write_long)
forbidden("memory is not limited", lambda: bytearray(MEMORY_BYTES + 1))
forbidden("files without a name take memory outside of any process", keep_unnamed_file)
forbidden("segments of System V take memory outside of any process", keep_segment)
if set(os.listdir("/")) - {"bin", "dev", "lib", "lib32", "lib64", "sbin", "usr", "work", TOP_OF_PREFIX}:
    loose.append("folders of the host can be seen")
if set(os.environ) - {"PATH", "HOME", "LANG", "PYTHONHASHSEED", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}:
    loose.append("the environment of the host can be read")
forbidden("the number of processes is not limited", fork_many)
if loose:
    raise AssertionError(", ".join(loose))
