"""Makes fixtures/reference/tool_dialogues.json: what Transformers writes of dialogues in which tools are called.

    .venv/bin/python tests/reference/make_tool_dialogues.py [--out fixtures/reference/tool_dialogues.json]

Every template in tool_templates/ is applied to every row, under two tokenizers of fixtures/tokenizers. The templates are our own;
fixtures/reference/README.md explains the file.
"""

import argparse
import json
import tempfile
from pathlib import Path
from shutil import copytree

import transformers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKENIZERS = ("byte_level", "llama_2")


def call(name, arguments, **more):
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


# The order of the keys differs from that of the alphabet, and shows wherever a template prints an object.
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town; \"now\" if there is no day",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "day": {"type": "string", "enum": ["now", "tomorrow"]}},
            "required": ["town"],
        },
    },
}
ASK = {"role": "user", "content": "Weather in Rīga?"}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    call("get_weather", {"town": "Rīga", "day": None, "at": [1, 2.5, True], "by": {"z": "'a' \"b\"", "a": {}}}, id="c1")]}
RESULT = {"role": "tool", "tool_call_id": "c1", "name": "get_weather", "content": "{\"celsius\": 7}"}
ANSWER = {"role": "assistant", "content": "It has 7 °C."}
ROWS = [
    {"messages": [{"role": "system", "content": "Be brief."}, ASK, CALL, RESULT, ANSWER], "tools": [WEATHER]},
    # Two calls at once with text before them, a second question, and a call at the end.
    {"messages": [
        {"content": "Add 1 2, then 3 4", "role": "user"},
        {"role": "assistant", "content": "One moment.", "tool_calls": [
            call("add", {"b": 2, "a": 1}), {"name": "add", "arguments": {"b": 4, "a": 3}}]},
        {"role": "tool", "content": "3"}, {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "3 and 7"},
        {"role": "user", "content": "And 5 6?"},
        {"role": "assistant", "content": "", "tool_calls": [call("add", {"b": 6, "a": 5})]}]},
    # Schemas alone; what was thought; keys that are null.
    {"messages": [ASK, {"role": "assistant", "content": "No idea.", "tool_calls": None, "thinking": "Hm.", "name": None}],
     "tools": [WEATHER, {"name": "now", "type": "function", "function": {"name": "now"}}]},
    # Thoughts without tools.
    {"messages": [ASK, {"role": "assistant", "content": "It may rain.", "reasoning_content": "No tool is there."}]},
]


def ids(tokenizer, messages, tools, **options):
    return tokenizer.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True, **options)


def targets(tokenizer, messages, tools):
    """Begin and end of what is learnt: the mask, or what an answer adds to its prompt."""
    if "{%- generation" in tokenizer.chat_template:
        mask = ids(tokenizer, messages, tools, return_assistant_tokens_mask=True)["assistant_masks"]
        edges = [place for place in range(len(mask) + 1) if (mask + [0])[place] != ([0] + mask)[place]]
        return list(zip(edges[::2], edges[1::2]))
    found = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = ids(tokenizer, messages[:place], tools, add_generation_prompt=True)["input_ids"]
            through = ids(tokenizer, messages[: place + 1], tools)["input_ids"]
            assert through[: len(prompt)] == prompt
            found.append((len(prompt), len(through)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures" / "reference" / "tool_dialogues.json")
    options = parser.parse_args()
    templates = {}
    for path in sorted((HERE / "tool_templates").glob("*.jinja")):
        made = {}
        for name in TOKENIZERS:
            with tempfile.TemporaryDirectory() as place:
                folder = copytree(ROOT / "fixtures" / "tokenizers" / name, Path(place) / "model")
                (folder / "chat_template.jinja").write_text(path.read_text())
                tokenizer = AutoTokenizer.from_pretrained(folder)
            made[name] = []
            for row in ROWS:
                messages, tools = row["messages"], row.get("tools")
                made[name].append({
                    "text": tokenizer.apply_chat_template(messages, tools=tools, tokenize=False),
                    "ids": ids(tokenizer, messages, tools)["input_ids"],
                    "targets": targets(tokenizer, messages, tools)})
        templates[path.stem] = made
    made = {"versions": {"transformers": transformers.__version__}, "rows": ROWS, "templates": templates}
    options.out.write_text(json.dumps(made, ensure_ascii=False) + "\n")
    for name, cases in templates.items():
        print(f"--- {name}\n{cases[TOKENIZERS[0]][0]['text']}")


if __name__ == "__main__":
    main()
