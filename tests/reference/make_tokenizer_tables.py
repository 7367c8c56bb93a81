"""Makes fixtures/reference/tokenizer_tables.json: how Transformers 4 and 5 read the files of a tokenizer's folder.

    .venv/bin/python tests/reference/make_tokenizer_tables.py [--out fixtures/reference/tokenizer_tables.json]

Run it once with transformers 4.57 and once with transformers 5.23: each writes its own part of the file.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import transformers
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
TOKENIZERS = ROOT / "fixtures" / "tokenizers"
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def loaded(files, configuration):
    with tempfile.TemporaryDirectory() as place:
        files = {**files, "tokenizer_config.json": {**NAMES, **configuration}, "config.json": {"model_type": "llama"}}
        for name, content in files.items():
            (Path(place) / name).write_text(json.dumps(content))
        return AutoTokenizer.from_pretrained(place)


def beginnings():
    """Whether a text begins with BOS, and the ids of a text after a special token, by post-processor, class and switches."""
    file = json.loads((TOKENIZERS / "prepend" / "tokenizer.json").read_text())
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    posts = {"bos": file["post_processor"], "none": None, "byte_level": byte_level}
    classes = [None, "PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "GPT2Tokenizer"]
    rows = []
    for post, kind, switch in itertools.product(posts, classes, [None, True, False]):
        for legacy in [None, True, False] if kind and "Llama" in kind and post == "bos" else [None]:
            configuration = {"tokenizer_class": kind, "add_bos_token": switch, "legacy": legacy}
            configuration = {key: value for key, value in configuration.items() if value is not None}
            tokenizer = loaded({"tokenizer.json": {**file, "post_processor": posts[post]}}, configuration)
            bos = tokenizer.encode("a")[0] == tokenizer.bos_token_id
            ids = tokenizer.encode("a</s>user", add_special_tokens=False)
            rows.append({"post_processor": post, "configuration": configuration, "bos": bos, "ids": ids})
    return rows


def added():
    """Ids of a text with a token that stands in one of five files only."""
    file = json.loads((TOKENIZERS / "metaspace_first" / "tokenizer.json").read_text())
    new = len(file["model"]["vocab"])
    in_vocabulary = json.loads(json.dumps(file))
    in_vocabulary["model"]["vocab"]["<new>"] = new
    properties = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    known = {str(token["id"]): {"content": token["content"], **properties} for token in file["added_tokens"]}
    declared = {str(new): {"content": "<new>", **properties}}
    plain = {str(new): {"content": "<new>", **properties, "special": False}}
    strips = {**known, "5": {**known["5"], "lstrip": True, "rstrip": True}}
    decoder, additional = "added_tokens_decoder", "additional_special_tokens"
    right_strip = {"__type": "AddedToken", "content": "<new>", **properties, "rstrip": True}
    cases = [
        ({}, {}, {}),
        ({}, {decoder: {**known, **declared}}, {}),
        ({}, {decoder: {**known, **plain}}, {}),
        ({}, {decoder: declared}, {}),
        ({}, {decoder: strips}, {}),
        ({}, {decoder: {**known, **declared}, "eos_token": "<new>"}, {}),
        ({}, {additional: ["<new>"]}, {}),
        ({}, {additional: ["<new>"], decoder: known}, {}),
        ({}, {"extra_special_tokens": {"new_token": "<new>"}}, {}),
        ({}, {"pad_token": "<new>"}, {}),
        ({}, {"pad_token": right_strip}, {}),
        ({}, {}, {"added_tokens.json": {"<new>": new}}),
        ({}, {decoder: known}, {"added_tokens.json": {"<new>": new}}),
        ({}, {}, {"special_tokens_map.json": {**NAMES, additional: ["<new>"]}}),
        ({}, {decoder: known}, {"special_tokens_map.json": {**NAMES, additional: ["<new>"]}}),
        ({}, {}, {"special_tokens_map.json": {**NAMES, "pad_token": "<new>"}}),
        ({"vocabulary": True}, {"pad_token": "<new>"}, {}),
        ({"vocabulary": True}, {additional: ["<new>"]}, {}),
        ({"vocabulary": True}, {decoder: {**known, **declared}}, {}),
        ({"vocabulary": True}, {}, {"added_tokens.json": {"<new>": new}}),
        ({"vocabulary": True}, {}, {"special_tokens_map.json": {**NAMES, additional: ["<new>"]}}),
    ]
    rows = []
    for place, configuration, files in cases:
        configuration = {"tokenizer_class": "PreTrainedTokenizerFast", **configuration}
        tokenizer = loaded({"tokenizer.json": in_vocabulary if place else file, **files}, configuration)
        ids = tokenizer.encode("a <new> b <|end_header_id|> c", add_special_tokens=False)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        rows.append({
            "in_vocabulary": bool(place), "configuration": configuration, "files": files,
            "ids": ids, "text": text, "eos": tokenizer.eos_token_id,
        })
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures" / "reference" / "tokenizer_tables.json")
    options = parser.parse_args()
    made = json.loads(options.out.read_text()) if options.out.exists() else {}
    major = transformers.__version__.split(".")[0]
    made[f"transformers_{major}"] = {"version": transformers.__version__, "beginnings": beginnings(), "added": added()}
    rows = [f'"{name}": ' + json.dumps(part, ensure_ascii=False) for name, part in sorted(made.items())]
    options.out.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print({name: len(part) for name, part in made[f"transformers_{major}"].items() if name != "version"})


if __name__ == "__main__":
    main()
