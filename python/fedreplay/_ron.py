"""RON: the notation of scenario files. Reads it to plain Python values, and writes text for a sweep file."""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/                                   # spaces and comments
    | (?P<raw>r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<number>[+-]?(?:0x[0-9a-fA-F_]+|0b[01_]+|0o[0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)|[+-](?:inf|NaN)\b)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>[()\[\]{}:,])
    """,
    re.VERBOSE | re.DOTALL,
)


def loads(text: str) -> Any:
    """Reads a RON value in the form that ``fedreplay scenario check --json`` has.

    A struct is a ``dict``, a variant with content ``{"Name": content}``, one without content its name as a ``str``, and ``None``
    is ``None``.

    >>> loads('(rounds: 3, algorithm: FedProx(mu: 0.1), template: Alpaca, file: Some("a.json"))')
    {'rounds': 3, 'algorithm': {'FedProx': {'mu': 0.1}}, 'template': 'Alpaca', 'file': 'a.json'}

    Raises:
        ValueError: if the text is not RON.
    """
    reader = _Reader(text)
    value = reader.value()
    reader.expect("")
    return value


def text_of(text: str) -> str:
    """Writes a text as RON.

    >>> print(text_of('a "b"'))
    "a \\"b\\""
    """
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{{{ord(match[0]):x}}}", plain) + '"'


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _next_is(self, mark: str) -> bool:
        return self._peek() == ("mark", mark)

    def expect(self, mark: str) -> None:
        kind, found = self._take()
        if kind not in ("mark", "end") or found != mark:
            raise ValueError(f"{mark or 'the end'!r} is expected, and {found!r} is there")

    def value(self) -> Any:
        kind, token = self._take()
        if kind == "text":
            return token
        if kind == "number":
            return _number(token)
        if (kind, token) == ("mark", "["):
            return self._items("]")
        if (kind, token) == ("mark", "{"):
            return self._entries()
        if (kind, token) == ("mark", "("):
            return self._content()
        if kind == "name":
            return self._named(token)
        raise ValueError(f"a value is expected, and {token!r} is there")

    def _named(self, name: str) -> Any:
        if name in ("true", "false"):
            return name == "true"
        if name in ("inf", "NaN"):
            return float(name)
        if not self._next_is("("):
            return None if name == "None" else name
        self.expect("(")
        content = self._content()
        if isinstance(content, list) and len(content) == 1:
            content = content[0]
        if name == "Some":
            return content
        return name if content in ([], {}) else {name: content}

    def _content(self) -> Any:
        """Reads what is in parentheses: the fields of a struct, or the items of a tuple."""
        if self._peek()[0] == "name" and self._tokens[self._at + 1] == ("mark", ":"):
            fields = {}
            while not self._next_is(")"):
                name = self._take()[1]
                self.expect(":")
                fields[name] = self.value()
                self._skip_comma(")")
            self.expect(")")
            return fields
        return self._items(")")

    def _items(self, end: str) -> list[Any]:
        items = []
        while not self._next_is(end):
            items.append(self.value())
            self._skip_comma(end)
        self.expect(end)
        return items

    def _entries(self) -> dict[Any, Any]:
        entries = {}
        while not self._next_is("}"):
            key = self.value()
            self.expect(":")
            entries[key] = self.value()
            self._skip_comma("}")
        self.expect("}")
        return entries

    def _skip_comma(self, end: str) -> None:
        if not self._next_is(end):
            self.expect(",")


def _tokens(text: str) -> list[tuple[str, str]]:
    """Splits a text into kinds and tokens, of which the last is the end."""
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at : at + 20]!r} is not RON")
        at = match.end()
        if match["raw"] is not None:
            quotes = len(match["hashes"]) + 1
            tokens.append(("text", match["raw"][quotes + 1 : -quotes]))
        elif match["text"] is not None:
            tokens.append(("text", _unescaped(match["text"])))
        elif match.lastgroup in ("number", "name", "mark"):
            tokens.append((match.lastgroup, match[match.lastgroup]))
    return [*tokens, ("end", "")]


def _unescaped(quoted: str) -> str:
    # RON writes \u{1f600}, \x41, \0 and \' where JSON has four digits only.
    quoted = re.sub(r"\\u\{([0-9a-fA-F]+)\}", lambda match: json.dumps(chr(int(match[1], 16)))[1:-1], quoted)
    quoted = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", quoted)
    return str(json.loads(quoted.replace("\\0", "\\u0000").replace("\\'", "'"), strict=False))


def _number(token: str) -> int | float:
    plain = token.replace("_", "")
    try:
        return int(plain, 0)
    except ValueError:
        return float(plain)
