# Runs one sample. Standard input is a word that only the verdict may repeat, and from the second line on the program.
import os
import signal
import sys

# The program that runs samples blocks signals, and processes inherit that.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.chdir("/work")
word, _, program = sys.stdin.read().partition("\n")
try:
    exec(compile(program, "sample.py", "exec"), {"__name__": "sample"})
except BaseException as error:
    verdict = "failed " + " ".join(f"{type(error).__name__}: {error}".split())[:200]
else:
    verdict = "passed"
os.write(1, f"\n{word} {verdict}\n".encode(errors="replace"))
os._exit(0)
