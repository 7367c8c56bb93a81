"""The examples of docs/python.md and of the package's own documentation print what they say."""

import doctest
import importlib
import pkgutil
import re
import unittest
from unittest import mock

from world import QUICKSTART, ROOT, World

import fedreplay
from fedreplay import _program

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.FAIL_FAST


class Examples(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A checkout has the scenario in another place than the package.
        if not (_program._DATA / "scenarios").exists():
            cls.enterClassContext(mock.patch.object(_program, "_DATA", ROOT))

    def check(self, text, name, names):
        example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
        # Blocks go on with the names of those before.
        example.globs = names
        printed = []
        runner = doctest.DocTestRunner(optionflags=_FLAGS)
        runner.run(example, out=printed.append, clear_globs=False)
        self.assertEqual(runner.failures, 0, "".join(printed))
        return runner.tries

    def test_the_page_prints_what_it_says(self):
        names = {}
        blocks = _BLOCK.findall((ROOT / "docs/python.md").read_text(encoding="utf-8"))
        examples = sum(self.check(block, f"docs/python.md, block {place}", names) for place, block in enumerate(blocks, 1))
        self.assertGreater(examples, 25)

    def test_functions_print_what_they_say(self):
        modules = [importlib.import_module(f"fedreplay.{found.name}") for found in pkgutil.iter_modules(fedreplay.__path__) if found.name != "__main__"]
        tried = sum(doctest.testmod(module, optionflags=_FLAGS, raise_on_error=True).attempted for module in modules)
        self.assertGreater(tried, 3)

    def test_the_page_names_every_function(self):
        page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
        for name in fedreplay.__all__:
            if name[0].islower():
                self.assertIn(f"`{name}(", page)
        self.assertTrue(QUICKSTART.exists())


if __name__ == "__main__":
    unittest.main()
