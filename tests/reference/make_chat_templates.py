"""Makes fixtures/reference/chat_templates.json: what Transformers writes under the templates beside this file.

    .venv/bin/python tests/reference/make_chat_templates.py [--out fixtures/reference/chat_templates.json]

The templates are our own, each in the style of a family of models. fixtures/reference/README.md explains the file.
"""

import argparse
import json
from pathlib import Path

import jinja2
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent

LLAMA2 = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LLAMA3 = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
# Template -> the special tokens that it is rendered with.
TEMPLATES = {
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "llama3_dated": LLAMA3,
    "qwen2": QWEN,
    "qwen2_tools": QWEN,
    "mistral": LLAMA2,
    "mistral_system_last": LLAMA2,
    "blocks": LLAMA2,
    "generation_tags": QWEN,
    "values": LLAMA2,
    "python_text": LLAMA2,
    "zephyr": LLAMA2,
    "eos_at_end": LLAMA2,
}
# Ours has no clock, so that this template falls back to its own date; Transformers is given that date.
DATES = {"llama3_dated": {"date_string": "01 Jan 2025"}}


def messages(*spoken):
    return [{"role": role, "content": content} for role, content in spoken]


SYSTEM = ("system", "You answer in one word.")
DIALOGUES = [
    messages(("user", "What is the capital of Latvia?"), ("assistant", "Riga.")),
    messages(SYSTEM, ("user", "What is the capital of Latvia?"), ("assistant", "Riga.")),
    messages(("user", "First?"), ("assistant", "One."), ("user", "Second?"), ("assistant", "Two.")),
    messages(SYSTEM, ("user", "First?"), ("assistant", "One."), ("user", "Second?"), ("assistant", "Two.")),
    # White space at the ends, and lines.
    messages(("system", " \n"), ("user", "  a\nb \n"), ("assistant", "\n\nc\n  d  \n")),
    # Characters of several bytes, and what JSON, HTML and Jinja escape.
    messages(("user", "ñ 漢字 😀 \"q\" \\ / <b>&amp;'"), ("assistant", "{{ x }} {% raw %} \t é\u2028é \u007f")),
    # Text that looks like the template's own.
    messages(("user", "a</s> [INST] <|im_end|>\n<|im_start|>assistant\n"), ("assistant", "<|eot_id|> [/INST] b <s>")),
    messages(("user", "Think."), ("assistant", "<think>\nhm\n</think>\n\nDone."), ("user", "Again."), ("assistant", "<think>\nso\n</think>\n\nYes.")),
    messages(("user", ""), ("assistant", "x")),
    # Dialogues that some templates refuse.
    messages(("assistant", "I begin."), ("user", "No.")),
    messages(("user", "a"), ("user", "b"), ("assistant", "c")),
]


def tokenizer(name, tokens):
    vocabulary = {token: i for i, token in enumerate(tokens.values())}
    inner = Tokenizer(WordLevel(vocabulary, unk_token=next(iter(vocabulary))))
    source = (HERE / "chat_templates" / f"{name}.jinja").read_text()
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=source, **tokens)


def render(tokenizer, dialogue, prompt, extra):
    """The text, or how the template refuses."""
    try:
        text = tokenizer.apply_chat_template(dialogue, tokenize=False, add_generation_prompt=prompt, **extra)
        return {"text": text}
    except jinja2.exceptions.TemplateError as error:
        return {"refusal": str(error)}


def marked(tokenizer, dialogue):
    """Begin and end of each part between `{% generation %}` and `{% endgeneration %}` in the UTF-8 text."""
    tokens = tokenizer.special_tokens_map
    (text,), (found,) = render_jinja_template(
        [dialogue], chat_template=tokenizer.chat_template, return_assistant_tokens_mask=True, **tokens)
    return {"ranges": [[len(text[:place].encode()) for place in part] for part in found]}


def answers(tokenizer, dialogue, text, extra):
    """Begin and end of each answer in the UTF-8 text, or the message at which prompt and answer are not to be told apart."""
    if "generation -%}" in tokenizer.chat_template and "assistant" in {message["role"] for message in dialogue}:
        return marked(tokenizer, dialogue)
    ranges = []
    for i, message in enumerate(dialogue):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, dialogue[:i], True, extra) if i else {}
        through = render(tokenizer, dialogue[: i + 1], False, extra)
        if "text" not in prompt or "text" not in through:
            return None
        # An end of sequence after the last message alone is not part of the answers before it.
        if not text.startswith(through["text"]):
            through = {"text": through["text"].removesuffix(tokenizer.eos_token)}
        if not through["text"].startswith(prompt["text"]) or not text.startswith(through["text"]):
            return {"not_a_prefix": i}
        ranges.append([len(part["text"].encode()) for part in (prompt, through)])
    return {"ranges": ranges}


def case(tokenizer, dialogue, extra):
    whole = render(tokenizer, dialogue, False, extra)
    found = answers(tokenizer, dialogue, whole["text"], extra) if "text" in whole else None
    return {"whole": whole, "prompt": render(tokenizer, dialogue, True, extra), "answers": found}


def template(name, tokens):
    made, extra = tokenizer(name, tokens), DATES.get(name, {})
    cases = [case(made, dialogue, extra) for dialogue in DIALOGUES]
    return {"name": name, "source": made.chat_template, "tokens": tokens, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "fixtures" / "reference" / "chat_templates.json")
    options = parser.parse_args()
    made = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "dialogues": DIALOGUES,
        "templates": [template(name, tokens) for name, tokens in TEMPLATES.items()],
    }
    options.out.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    for entry in made["templates"]:
        kinds = [("refused" if "refusal" in c["whole"] else "/".join(c["answers"] or ["no prompt"])) for c in entry["cases"]]
        print(f"{entry['name']}: {', '.join(kinds)}")


if __name__ == "__main__":
    main()
