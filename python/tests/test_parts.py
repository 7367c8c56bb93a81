"""Parts of one's own: aggregation rules, datasets and judges that are Python objects."""

import json
import unittest
from pathlib import Path

import numpy
import numpy as np
from world import QUICKSTART, SMALL, World

import fedreplay

SCALE = 2.0


@fedreplay.rule
def damped(server, updates, weights, ranks, staleness, state, by=1.0):
    """Moves by a part of the mean change."""
    model = {}
    for name, matrix in server.items():
        model[name] = matrix + by * np.sum([weight * update[name] for weight, update in zip(weights, updates)], axis=0)
    return model, None


class Rules(World):
    def test_a_rule_is_the_same_as_its_file(self):
        by_object = fedreplay.run(QUICKSTART, set={**SMALL, "algorithm": damped.with_parameters(by=0.5)}, out="by-object")
        Path("copy.py").write_text(damped.text)
        algorithm = {"Python": {"file": str(Path("copy.py").resolve()), "parameters": {"by": 0.5}}}
        by_file = fedreplay.run(QUICKSTART, set={**SMALL, "algorithm": algorithm}, out="by-file", store="none")
        self.assertEqual(by_object.digest, by_file.digest)
        whole = fedreplay.run(QUICKSTART, set={**SMALL, "algorithm": damped}, out="whole")
        self.assertNotEqual(whole.digest, by_object.digest, "parameters are part of the digest")
        # Two clients of one round: the whole rule is FedAvg.
        average = fedreplay.run(QUICKSTART, set=SMALL, out="average")
        for name, matrix in average.adapter(1).tensors().items():
            numpy.testing.assert_allclose(whole.adapter(1).tensors()[name], matrix, rtol=1e-5, atol=1e-8)

    def test_a_rule_can_be_called(self):
        server, update = {"a": numpy.ones((1, 2))}, {"a": numpy.full((1, 2), 4.0)}
        model, state = damped.with_parameters(by=0.25)(server, [update], [1.0], [1], [0], {})
        self.assertEqual((model["a"].tolist(), state), ([[2.0, 2.0]], None))

    def test_what_a_text_does_not_have_is_refused(self):
        factor = 3

        def of_a_function(server, updates, weights, ranks, staleness, state):
            return {name: factor * value for name, value in server.items()}, None

        def of_a_file(server, updates, weights, ranks, staleness, state):
            return {name: SCALE * value for name, value in server.items()}, None

        for function, name in [(of_a_function, "`factor`"), (of_a_file, "`SCALE`"), (lambda *all: all, "`def`"), (json.loads, "text|key")]:
            with self.subTest(name=name), self.assertRaisesRegex(TypeError, name):
                fedreplay.rule(function)

        @fedreplay.rule
        def of_modules(server, updates, weights, ranks, staleness, state):
            def halved(value):
                return np.divide(value, 2)

            return {name: halved(value) for name, value in server.items()}, None

        beginning = "from __future__ import annotations\nimport numpy as np\n\n\ndef aggregate(server"
        self.assertTrue(of_modules.text.startswith(beginning), of_modules.text)

        @fedreplay.rule
        def f(server: "Unknown", updates, weights, ranks, staleness, state):
            return server, None

        self.assertIn("\ndef aggregate(server", f.text)

    def test_defaults_and_names_without_a_value_are_refused(self):
        def with_default(server, updates, weights, ranks, staleness, state, by=SCALE):
            return server, None

        def of_nothing(server, updates, weights, ranks, staleness, state):
            return nowhere(server), None  # noqa: F821

        for function, said in [(with_default, "literal"), (of_nothing, "`nowhere`")]:
            with self.subTest(said=said), self.assertRaisesRegex(TypeError, said):
                fedreplay.rule(function)


class Datasets(World):
    def test_pairs_and_dictionaries_give_one_file(self):
        rows = {name: [{"instruction": f"{name} {count}", "response": "ü"} for count in range(3)] for name in ("ann", "bob")}
        data = fedreplay.dataset(rows)
        pairs = ((name, row) for row in zip(rows["ann"], rows["bob"]) for name, row in zip(rows, row))
        self.assertEqual(fedreplay.dataset(pairs), data)
        self.assertEqual(json.loads(data.file.read_text()), rows)
        self.assertEqual(data.rows, {"ann": 3, "bob": 3})
        changes = {**SMALL, "data.file": data, "data.held_out": 0, "server.protocol.Synchronous.over_selection": 0}
        run = fedreplay.run(QUICKSTART, set=changes, out="own-data")
        self.assertEqual(sorted(run.population.arrow()["client_id"].to_pylist()), ["ann", "bob"])

    def test_what_is_no_row_is_refused(self):
        for rows, said in [({"ann": ["text"]}, "ann"), ({"ann": [{"a": float("nan")}]}, "number"), ({"ann": [{"a": {1}}]}, "set")]:
            with self.subTest(said=said), self.assertRaisesRegex(TypeError, said):
                fedreplay.dataset(rows)


class Judges(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        Path("questions/vicuna").mkdir(parents=True)
        lines = [{"question_id": id, "category": "generic", "turns": [f"What is {id}?"]} for id in (1, 2)]
        Path("questions/vicuna/question.jsonl").write_text("\n".join(map(json.dumps, lines)))
        cls.model = QUICKSTART.parent.parent / "fixtures/tiny-base"

    def evaluate(self, judge):
        return fedreplay.evaluate(self.model, bench=["vicuna"], data="questions", judge=judge, answer_tokens_max=4)

    def test_a_judge_is_asked_once_for_each_question(self):
        asked = []

        def seven(messages):
            asked.append(messages[-1]["content"])
            return "Rating: [[7]]"

        judge = fedreplay.judge(seven, name="seven")
        for _ in range(2):
            scores = [row["score"] for row in self.evaluate(judge).figures if row["benchmark"] == "vicuna"]
            self.assertEqual(scores[0], 7.0)
        self.assertEqual(len(asked), 2)
        self.assertTrue(any("What is 1?" in text for text in asked), asked)

    def test_a_judge_without_a_name_reads_modules_only(self):
        with self.assertRaisesRegex(TypeError, "SCALE"):
            fedreplay.judge(lambda_free)
        judge = fedreplay.judge(by_length)
        self.assertRegex(judge.name, "^by_length-[0-9a-f]{32}$")

    def test_an_error_of_a_judge_is_raised(self):
        def broken(messages):
            raise ValueError("no opinion")

        with self.assertRaisesRegex(ValueError, "no opinion"):
            self.evaluate(fedreplay.judge(broken, name="broken"))


def lambda_free(messages):
    return f"[[{SCALE}]]"


def by_length(messages):
    return f"[[{numpy.clip(len(messages), 1, 10)}]]"


if __name__ == "__main__":
    unittest.main()
