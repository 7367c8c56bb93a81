"""Bars, and the log of a program that is made up."""

import contextlib
import io
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from fedreplay import Failed, Interrupted, Progress, Refused
from fedreplay._process import call
from fedreplay._progress import display_for


def step(message, share=None, kind="step"):
    return Progress(message, share, kind)


class Bars(unittest.TestCase):
    def drawn(self, steps):
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            display = display_for(True)
            for one in steps:
                display.show(one)
            display.end()
        return out.getvalue().split("\r\x1b[2K")

    def test_a_bar_moves_within_a_round_and_not_back(self):
        drawn = self.drawn([step("reading"), step("1/4 tasks", 0.25), step("1/8 tasks", 0.125), step("[ROUND 1/2] closed", kind="round")])
        self.assertEqual([line[:29].split(" ", 1)[1].strip() for line in drawn if line[:1] in ("#", ".")], ["0%", "25%", "25%", "25%"])
        self.assertIn("[ROUND 1/2] closed\n", drawn)
        self.assertEqual(drawn[-1], "", "the bar is removed at the end")

    def test_the_cells_of_a_sweep_begin_again(self):
        drawn = self.drawn([step("a", 0.9), step("[CELL 2/3] b", kind="cell"), step("c", 0.5)])
        self.assertRegex(drawn[-2], r"^#{12}\.{12}  50% \[CELL 2/3\] b c$")

    def test_nothing_is_drawn_where_nobody_looks(self):
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            for option in (None, False):
                display_for(option).show(step("a", 0.5))
        self.assertEqual(out.getvalue(), "")


class Programs(unittest.TestCase):
    """What is made of a program's log, answer and exit code."""

    def call(self, body, **arguments):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "program"
            program.write_text(f"#!{sys.executable}\nimport json, sys, time\ndef log(level, message, target='x', **fields):\n"
                               "    print(json.dumps({'level': level, 'target': target, 'fields': {'message': message, **fields}}), file=sys.stderr, flush=True)\n"
                               + body)
            program.chmod(0o755)
            with mock.patch.dict(os.environ, {"FEDREPLAY_PROGRAM": str(program)}):
                return call(["command"], **arguments)

    def test_the_answer_is_the_last_line(self):
        answer = self.call("print('lines'); print('{\"a\": 1}'); sys.exit(3)")
        self.assertEqual((answer.data, answer.text, answer.is_different), ({"a": 1}, "lines", True))

    def test_exit_codes_have_their_exceptions(self):
        for code, error in ((1, Failed), (2, Refused), (130, Interrupted), (143, Interrupted)):
            with self.assertRaises(error):
                self.call(f"log('ERROR', 'failed'); sys.exit({code})")
        with self.assertRaisesRegex(Failed, "^libtorch.so is not there$"):
            self.call("print('libtorch.so is not there', file=sys.stderr); sys.exit(127)")
        with self.assertRaisesRegex(Failed, "exit code -9"):
            self.call("import os; os.kill(os.getpid(), 9)")

    def test_a_warning_of_several_lines_is_one(self):
        with self.assertWarnsRegex(UserWarning, "^2 updates could not be used:\n  client a$"):
            self.call("log('WARN', 'warning: 2 updates could not be used:'); log('WARN', '  client a'); print('{}')")

    def test_progress_is_told_as_it_comes(self):
        steps = []
        self.call("log('INFO', 'progress: a', 'fedreplay::progress', share=0.5)\nlog('WARN', '[CELL 1/2] b')\n"
                  "log('INFO', '[ROUND 1/2] c', 'fedreplay::progress')\nlog('DEBUG', 'd'); print('{}')", progress=steps.append)
        self.assertEqual(steps, [step("a", 0.5), step("[CELL 1/2] b", kind="cell"), step("[ROUND 1/2] c", kind="round")])

    def test_more_output_than_a_pipe_holds_is_read(self):
        answer = self.call("print('x' * 1_000_000)\nfor _ in range(5000): log('INFO', 'y' * 100)\nprint('{}')")
        self.assertEqual(len(answer.text), 1_000_000)

    def test_an_interruption_is_one_signal_that_the_program_may_finish_on(self):
        def stop(_):
            raise KeyboardInterrupt

        with tempfile.TemporaryDirectory() as folder:
            body = ("import os, signal\nnumber = 0\ndef on(*_):\n    global number; number += 1\nsignal.signal(signal.SIGINT, on)\n"
                    "log('INFO', 'begun', 'fedreplay::progress')\nwhile not number: time.sleep(0.01)\ntime.sleep(0.2)\n"
                    f"open({folder!r} + '/manifest.json', 'w').write(str(number))\nsys.exit(130)")
            with self.assertRaises(Interrupted) as caught:
                self.call(body, progress=stop, folder=Path(folder))
            self.assertEqual(caught.exception.folder, Path(folder))
            self.assertEqual((Path(folder) / "manifest.json").read_text(), "1")

    def test_a_program_is_not_left_behind(self):
        def fail(_):
            raise ZeroDivisionError

        began = time.monotonic()
        with self.assertRaises(ZeroDivisionError):
            self.call("log('INFO', 'begun', 'fedreplay::progress'); time.sleep(600)", progress=fail)
        self.assertLess(time.monotonic() - began, 60)


if __name__ == "__main__":
    unittest.main()
