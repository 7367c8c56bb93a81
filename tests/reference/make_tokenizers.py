"""Makes fixtures/tokenizers: small tokenizers in the forms that model folders have, one folder each.

    .venv/bin/python tests/reference/make_tokenizers.py [--out fixtures/tokenizers]

All have the special tokens of the templates in tests/reference/chat_templates, and merges of a few lines of text.
`make_chat_ids.py` computes with Transformers what they make of dialogues.
"""

import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = [
    "<unk>", "<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>",
]
TEXT = [
    "A chat between a curious user and an artificial intelligence assistant. USER: Say it. ASSISTANT: It is said.",
    "### Instruction:\nName the capital. \n\n### Response: The capital is Riga.",
    "def add(a, b):\n    total = a + b\n    if total > 0:\n        return total\n    return 0\n",
    "[INST] What is it? [/INST] user\nassistant\nsystem\nYou answer in one word.",
]
DUMMY = "\u2581"


def llama(normalizer, pre_tokenizer, strips=True):
    """Llama-2's form: bytes as tokens where a character is unknown, and a space is U+2581."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    # The text is trained on as it looks after the dummy prefix, with spaces kept inside of tokens up to a word.
    words = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace(replacement=DUMMY, prepend_scheme="always")
    words.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=430, special_tokens=SPECIAL + names, show_progress=False))
    made = json.loads(words.to_str())
    ends = [decoders.Strip(" ", 1, 0)] if strips else []
    tokenizer = Tokenizer(models.BPE(
        vocab=made["model"]["vocab"], merges=[tuple(merge) for merge in made["model"]["merges"]],
        unk_token="<unk>", byte_fallback=True, fuse_unk=True,
    ))
    tokenizer.decoder = decoders.Sequence([decoders.Replace(DUMMY, " "), decoders.ByteFallback(), decoders.Fuse(), *ends])
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    return special(tokenizer)


def special(tokenizer):
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return tokenizer


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    return special(tokenizer)


def with_bos(tokenizer, token="<s>"):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, tokenizer.token_to_id(token))])
    return tokenizer


def prepend():
    return normalizers.Sequence([normalizers.Prepend(DUMMY), normalizers.Replace(" ", DUMMY)])


def metaspace(scheme):
    return pre_tokenizers.Metaspace(replacement=DUMMY, prepend_scheme=scheme, split=False)


FAST = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
LLAMA = {**FAST, "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
CHAT_ML = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
TOKENIZERS = {
    # Llama-2's file as it is, for a class that reads it as it stands.
    "prepend": lambda: (with_bos(llama(prepend(), None)), FAST),
    # Llama-2's folder: the class puts no dummy prefix after a special token, whatever the file says.
    "llama_2": lambda: (with_bos(llama(prepend(), None)), {**LLAMA, "legacy": False, "add_prefix_space": True}),
    "metaspace_first": lambda: (with_bos(llama(None, metaspace("first"))), FAST),
    "metaspace_always": lambda: (with_bos(llama(None, metaspace("always"))), FAST),
    "metaspace_never": lambda: (with_bos(llama(None, metaspace("never"), strips=False)), FAST),
    "byte_level": lambda: (byte_level(), CHAT_ML),
    "byte_level_bos": lambda: (
        with_bos(byte_level(), "<|begin_of_text|>"),
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures" / "tokenizers")
    options = parser.parse_args()
    for name, make in TOKENIZERS.items():
        tokenizer, configuration = make()
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        written = json.loads(tokenizer.to_str())
        (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False, separators=(",", ":")) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=1) + "\n")
        print(f"{name}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
