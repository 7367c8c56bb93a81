"""Makes fixtures/reference/chat_ids.json: the ids that Transformers' apply_chat_template makes of dialogues.

    .venv/bin/python tests/reference/make_chat_ids.py [--out fixtures/reference/chat_ids.json]

Every template beside this file is applied under every tokenizer of fixtures/tokenizers. fixtures/reference/README.md explains
the file.
"""

import argparse
import json
import tempfile
from pathlib import Path
from shutil import copytree

import jinja2
import transformers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# What templates take that ask for the current date.
DATE = "26 Jul 2024"
# Templates whose long texts are compared in chat_templates.json.
WITHOUT = ("values", "python_text")


def messages(*spoken):
    return [{"role": role, "content": content} for role, content in spoken]


DIALOGUES = [
    messages(("user", "What is it?"), ("assistant", "It is Riga."), ("user", "Say it"), ("assistant", "Riga")),
    messages(("system", "You answer in one word."), ("user", "ñ 漢字 😀?"), ("assistant", "  return a\n\nb ")),
    messages(("user", "def add(a, b):\n    return a"), ("assistant", "\treturn a + b\n")),
]
TURNS = [
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite"
    " answers to the user's questions. USER: What is it? ASSISTANT: It is Riga.",
    "USER: Say it ASSISTANT: Riga",
    "USER:  return a ASSISTANT: \n\tb",
]
SPELLED = TURNS[0].split("USER:")[0] + "USER: Is </s> a tag, <unk>? ASSISTANT: It is<s> not, </s>a."


def ids(tokenizer, dialogue, **options):
    """Ids, or None where the template refuses the dialogue."""
    try:
        made = tokenizer.apply_chat_template(
            dialogue, tokenize=True, return_dict=True, date_string=DATE, strftime_now=lambda _: DATE, **options)
    except (jinja2.exceptions.TemplateError, TypeError):
        return None
    return made


def runs(mask):
    """Begin and end of each run of ones."""
    found, begin = [], None
    for place, one in enumerate([*mask, 0]):
        if one and begin is None:
            begin = place
        if not one and begin is not None:
            found.append([begin, place])
            begin = None
    return found


def case(tokenizer, dialogue):
    """Ids of the whole dialogue; of the prompt of each answer, of which only the number where they begin the whole."""
    marked = "generation -%}" in tokenizer.chat_template
    whole = ids(tokenizer, dialogue, return_assistant_tokens_mask=marked)
    if whole is None:
        return None
    listed = whole["input_ids"]
    prompts = []
    for place, message in enumerate(dialogue):
        if message["role"] == "assistant":
            prompt = ids(tokenizer, dialogue[:place], add_generation_prompt=True)["input_ids"]
            prompts.append(len(prompt) if listed[: len(prompt)] == prompt else " ".join(map(str, prompt)))
    made = {"ids": " ".join(map(str, listed)), "prompts": prompts}
    if marked:
        made["targets"] = runs(whole["assistant_masks"])
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures" / "reference" / "chat_ids.json")
    options = parser.parse_args()
    templates = [path for path in sorted((HERE / "chat_templates").glob("*.jinja")) if path.stem not in WITHOUT]
    tokenizers, turns, spelled = {}, {}, {}
    for folder in sorted((ROOT / "fixtures" / "tokenizers").iterdir()):
        tokenizers[folder.name] = {}
        for template in templates:
            with tempfile.TemporaryDirectory() as place:
                copied = copytree(folder, Path(place) / "model")
                (copied / "chat_template.jinja").write_text(template.read_text())
                tokenizer = AutoTokenizer.from_pretrained(copied)
                tokenizers[folder.name][template.stem] = [case(tokenizer, dialogue) for dialogue in DIALOGUES]
        # The turns of a prompt template, as one text with the end-of-sequence token in writing.
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = "".join(turn + tokenizer.eos_token for turn in TURNS)
        turns[folder.name] = " ".join(map(str, tokenizer(text)["input_ids"]))
        spelled[folder.name] = " ".join(map(str, tokenizer(SPELLED + tokenizer.eos_token)["input_ids"]))
    made = {"versions": {"transformers": transformers.__version__}, "dialogues": DIALOGUES, "turns": TURNS}
    made = {**made, "ids_of_turns": turns, "ids_of_spelled": spelled, "tokenizers": tokenizers}
    options.out.write_text(json.dumps(made, indent=0, ensure_ascii=False) + "\n")
    for name, cases in tokenizers.items():
        refused = [template for template, dialogues in cases.items() if None in dialogues]
        print(f"{name}: {len(cases)} templates, refuses something: {', '.join(refused) or 'none'}")


if __name__ == "__main__":
    main()
