"""Runs every query of docs/analysis.md in the current folder, which holds `runs/`.

A section's blocks must give one answer, with rows in it; a block `text` below them is that answer, to the digit. With
`--write` the page gets such blocks anew where there is one.

    python run.py PAGE [--write]
"""

import math
import re
import sys
from pathlib import Path

import duckdb
import pandas as pd

BLOCK = re.compile(r"^```(\w+)( setup)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUESTIONS_LEAST = 10


def run(language, source, setup):
    """The answer of one block as columns and rows."""
    if language == "sql":
        relation = duckdb.sql(source)
        return list(relation.columns), [tuple(row) for row in relation.fetchall()]
    names = {}
    exec(setup + source, names)
    frame = names["answer"]
    if isinstance(frame, pd.DataFrame):
        return list(frame.columns), list(frame.itertuples(index=False, name=None))
    return list(frame.columns), frame.rows()


def same(left, right):
    """Whether two answers are one, but for the last digits of sums in another order."""
    if left[0] != right[0] or len(left[1]) != len(right[1]):
        return False
    return all(same_value(a, b) for one, other in zip(left[1], right[1]) for a, b in zip(one, other))


def same_value(left, right):
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    return math.isclose(float(left), float(right), rel_tol=1e-9)


def as_text(answer):
    cells = [answer[0]] + [[str(cell) if isinstance(cell, str) else f"{float(cell):.12g}" for cell in row] for row in answer[1]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in cells)


def check(title, section, setup):
    """Runs a section's blocks; returns what is wrong, and the section with its answer as it is now."""
    blocks = [(match[1], match[3]) for match in BLOCK.finditer(section)]
    answers = [run(language, source, setup) for language, source in blocks if language in ("sql", "python")]
    wrong = [] if answers else [f"{title}: no query"]
    for answer in answers:
        if not answer[1]:
            wrong.append(f"{title}: no rows")
        if not same(answers[0], answer):
            wrong.append(f"{title}: two answers\n{as_text(answers[0])}{as_text(answer)}")
    printed = [source for language, source in blocks if language == "text"]
    if printed and printed[0] != as_text(answers[0]):
        wrong.append(f"{title}: the page says\n{printed[0]}and it is\n{as_text(answers[0])}")
    if printed:
        section = section.replace(f"```text\n{printed[0]}```", f"```text\n{as_text(answers[0])}```")
    return wrong, section


def main():
    page = Path(sys.argv[1])
    head, *sections = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    setup = "".join(match[3] for match in BLOCK.finditer(head) if match[2])
    checked = [check(section.splitlines()[0], section, setup) for section in sections]
    if "--write" in sys.argv:
        page.write_text(head + "".join(section for _, section in checked), encoding="utf-8")
        return 0
    wrong = [line for lines, _ in checked for line in lines]
    if len(sections) < QUESTIONS_LEAST:
        wrong.append(f"{len(sections)} questions")
    print("\n".join(wrong) or f"{len(sections)} questions answered")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
