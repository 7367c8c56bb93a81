"""Makes fixtures/gguf: small GGUF files of each family and format, and what Transformers and the gguf package read in them.

    .venv/bin/python tests/reference/make_gguf.py [--out fixtures/gguf]

Needs the packages of requirements.txt. Weights are drawn from a seed, blocks of quantized formats as random bytes with small
scales, so that every bit of a block counts. The tokens are those of fixtures/tiny-base with its first merges.
fixtures/gguf/README.md explains the files.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFWriter, TokenType, quants
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent.parent
MERGES = 160
SPACE = "\u2581"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = [
    "",
    "Hello world",
    " one space before,  two inside, one after ",
    "   three before\n\n\nand lines\r\n\tand tabs\t\t end",
    "In 2024, 1234567 apples cost $3.50 (12.5%).",
    "don't DON'T we'll WE'LL they've I'M o'clock's",
    "na\u00efve caf\u00e9 e\u0301 \u00df \u0130stanbul \u01c5",
    "\u4eca\u65e5\u306f\u4e16\u754c \ud55c\uad6d\uc5b4 \u0a97\u0ac1\u0a9c\u0ab0\u0abe\u0aa4\u0ac0 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \u00a0nbsp\u2003em\u2028line",
    "x=1;y+=2//z\n\n  def f(a_b):\n\treturn a_b**2 # no\n",
    "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n",
    "<think>so</think> then <s> and </s> or <unk> <0x41>",
    "\u2160\u2161 \u00b2\u00b3 \u0661\u0662\u0663 \u00bd 007 1 22 333 4444",
    "aaaaaaaaaaaaaaaa          b\u2581c \u0000\u0001\u007f \\n",
    "CamelCaseWords and SCREAMING_snake_case, \u00c9COLE \u00e9cole",
]


def random_blocks(rng, kind, shape):
    """Random blocks of a quantized format, whose f16 scales are between 2^-9 and 2^-6."""
    block, size = {Q.Q4_0: (32, 18), Q.Q4_1: (32, 20), Q.Q5_0: (32, 22), Q.Q5_1: (32, 24), Q.Q8_0: (32, 34),
                   Q.Q4_K: (256, 144), Q.Q5_K: (256, 176), Q.Q6_K: (256, 210)}[kind]
    places = {Q.Q4_1: [0, 2], Q.Q5_1: [0, 2], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}.get(kind, [0])
    count = int(np.prod(shape)) // block
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in places:
        scales = (rng.uniform(2.0**-9, 2.0**-6, count) * rng.choice([-1, 1], count)).astype(np.float16)
        data[:, place : place + 2] = scales.view(np.uint8).reshape(count, 2)
    return data.reshape(*shape[:-1], shape[-1] // block * size)


class File:
    """A GGUF file that is being written."""

    def __init__(self, path, architecture, seed):
        self.writer = GGUFWriter(str(path), architecture)
        self.rng = np.random.default_rng(seed)

    def tensor(self, name, shape, kind=Q.F32):
        if kind in (Q.F32, Q.F16, Q.BF16):
            values = self.rng.normal(0, 0.05, shape).astype(np.float32)
            if name.endswith("norm.weight"):
                values += 1
            data = quants.quantize(values, kind)
            self.writer.add_tensor(name, data, raw_dtype=kind) if kind == Q.BF16 else self.writer.add_tensor(name, data)
        else:
            self.writer.add_tensor(name, random_blocks(self.rng, kind, shape), raw_dtype=kind)

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def byte_level(file, pre, bos, add_bos=None):
    """Tokens of the tiny base model: special ones, its alphabet, its first merges, and control and user-defined tokens."""
    model = json.loads((ROOT / "fixtures/tiny-base/tokenizer.json").read_text())["model"]
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]][:MERGES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + alphabet + [merge.replace(" ", "") for merge in merges]
    types = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3)
    tokens += ["<think>", "</think>", "[PAD1]"]
    types += [TokenType.USER_DEFINED] * 2 + [TokenType.UNUSED]
    writer = file.writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.add_chat_template(CHATML)
    return len(tokens)


def sentencepiece(file, gemma=False):
    """The same merges as SentencePiece has them: scores by the order of merges, and bytes as tokens."""
    model = json.loads((ROOT / "fixtures/tiny-base/tokenizer.json").read_text())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]][:MERGES]
    pieces = ["".join(merge).replace("\u0120", SPACE) for merge in merges]
    letters = sorted({letter for piece in pieces for letter in piece} | set("abcdefghijklmnopqrstuvwxyz.,!?'\u00e9\u4e16"))
    head = ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    types = [TokenType.CONTROL] * len(head)
    if not gemma:
        types[0] = TokenType.UNKNOWN
    tokens, scores = list(head), [0.0] * len(head)
    if gemma:
        extra = ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "  ", "   "]
        tokens, scores = tokens + extra, scores + [0.0] * len(extra)
        types += [TokenType.CONTROL] * 2 + [TokenType.USER_DEFINED] * 4
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [TokenType.BYTE] * 256
    scores += [0.0] * 256
    pieces = [piece for piece in dict.fromkeys(pieces) if len(piece) > 1 and piece not in tokens]
    tokens += pieces + letters
    types += [TokenType.NORMAL] * (len(pieces) + len(letters))
    scores += [-float(rank) for rank in range(len(pieces) + len(letters))]
    # The end of a sequence must not be reached by merges of what looks like it.
    if not gemma:
        tokens += ["</", "s>"]
        types += [TokenType.NORMAL] * 2
        scores += [-500.0, -501.0]
        tokens += ["<", "/", ">"]
        types += [TokenType.NORMAL] * 3
        scores += [-502.0, -503.0, -504.0]
    writer = file.writer
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    if gemma:
        writer.add_bos_token_id(2)
        writer.add_eos_token_id(1)
        writer.add_eot_token_id(5)
        writer.add_unk_token_id(3)
        writer.add_pad_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(False)
    else:
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    return len(tokens)


def sizes(file, layers, hidden, intermediate, heads, kv_heads, eps=1e-5, theta=10000.0):
    writer = file.writer
    writer.add_block_count(layers)
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_rope_freq_base(theta)


def layer(file, index, hidden, intermediate, queries, keys, kinds, biases=False, head_norms=None):
    """The tensors of a layer; `kinds` are the formats of q, k, v, output, gate, up and down."""
    block = f"blk.{index}."
    q, k, v, o, gate, up, down = kinds
    file.tensor(block + "attn_norm.weight", (hidden,))
    file.tensor(block + "attn_q.weight", (queries, hidden), q)
    file.tensor(block + "attn_k.weight", (keys, hidden), k)
    file.tensor(block + "attn_v.weight", (keys, hidden), v)
    if biases:
        for letter, width in [("q", queries), ("k", keys), ("v", keys)]:
            file.tensor(block + f"attn_{letter}.bias", (width,))
    if head_norms:
        for letter in "qk":
            file.tensor(block + f"attn_{letter}_norm.weight", (head_norms,))
    file.tensor(block + "attn_output.weight", (hidden, queries), o)
    file.tensor(block + "ffn_norm.weight", (hidden,))
    file.tensor(block + "ffn_gate.weight", (intermediate, hidden), gate)
    file.tensor(block + "ffn_up.weight", (intermediate, hidden), up)
    file.tensor(block + "ffn_down.weight", (hidden, intermediate), down)


def llama(path):
    """All formats that there are, grouped heads, a tied head, SmolLM's pre-tokenizer."""
    file = File(path, "llama", 1)
    file.writer.add_name("Tiny Smol")
    sizes(file, 2, 256, 256, 4, 2, theta=100000.0)
    file.writer.add_rope_dimension_count(32)
    file.writer.add_key_length(32)
    file.writer.add_value_length(32)
    vocab = byte_level(file, "smollm", 1, add_bos=False)
    file.writer.add_vocab_size(vocab)
    file.tensor("token_embd.weight", (vocab, 256), Q.Q4_0)
    layer(file, 0, 256, 256, 128, 64, [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K])
    layer(file, 1, 256, 256, 128, 64, [Q.Q4_K, Q.Q6_K, Q.F16, Q.BF16, Q.Q5_K, Q.Q6_K, Q.Q4_1])
    file.tensor("output_norm.weight", (256,))
    file.close()


def mistral(path):
    """Stored as llama, with a SentencePiece tokenizer, an output head and Q8_0 weights."""
    file = File(path, "llama", 2)
    file.writer.add_name("Tiny Mistral")
    sizes(file, 1, 32, 64, 4, 2)
    file.writer.add_rope_dimension_count(8)
    vocab = sentencepiece(file)
    file.tensor("token_embd.weight", (vocab, 32), Q.Q8_0)
    layer(file, 0, 32, 64, 32, 16, [Q.Q8_0] * 7)
    file.tensor("output_norm.weight", (32,))
    file.tensor("output.weight", (vocab, 32), Q.F16)
    file.close()


def qwen2(path):
    file = File(path, "qwen2", 3)
    sizes(file, 1, 32, 64, 4, 2, eps=1e-6, theta=1000000.0)
    vocab = byte_level(file, "qwen2", 0, add_bos=False)
    # The embedding of Qwen2 has more rows than there are tokens.
    file.tensor("token_embd.weight", (vocab + 5, 32), Q.Q5_0)
    layer(file, 0, 32, 64, 32, 16, [Q.Q5_0, Q.Q4_0, Q.Q4_1, Q.Q5_1, Q.F16, Q.BF16, Q.F32], biases=True)
    file.tensor("output_norm.weight", (32,))
    file.close()


def qwen3(path):
    file = File(path, "qwen3", 4)
    sizes(file, 1, 32, 32, 2, 1, eps=1e-6, theta=1000000.0)
    # Transformers does not read the width of a head and takes its default, 128.
    file.writer.add_key_length(128)
    file.writer.add_value_length(128)
    vocab = byte_level(file, "qwen2", 0, add_bos=False)
    file.tensor("token_embd.weight", (vocab, 32), Q.Q4_0)
    layer(file, 0, 32, 32, 256, 128, [Q.Q8_0] * 7, head_norms=128)
    file.tensor("output_norm.weight", (32,))
    file.close()


def gemma3(path):
    file = File(path, "gemma3", 5)
    sizes(file, 7, 32, 32, 2, 1, eps=1e-6, theta=1000000.0)
    file.writer.add_key_length(16)
    file.writer.add_value_length(16)
    file.writer.add_sliding_window(24)
    vocab = sentencepiece(file, gemma=True)
    file.tensor("token_embd.weight", (vocab, 32), Q.Q8_0)
    for index in range(7):
        layer(file, index, 32, 32, 32, 16, [Q.Q5_0] * 7, head_norms=16)
        file.tensor(f"blk.{index}.post_attention_norm.weight", (32,))
        file.tensor(f"blk.{index}.post_ffw_norm.weight", (32,))
    file.tensor("output_norm.weight", (32,))
    file.close()


def phi3(path):
    file = File(path, "phi3", 6)
    sizes(file, 1, 32, 64, 4, 4)
    file.writer.add_rope_dimension_count(8)
    file.writer.add_sliding_window(48)
    vocab = sentencepiece(file)
    file.writer.add_pad_token_id(0)
    file.tensor("token_embd.weight", (vocab, 32), Q.Q8_0)
    file.tensor("blk.0.attn_norm.weight", (32,))
    file.tensor("blk.0.attn_qkv.weight", (96, 32), Q.Q4_1)
    file.tensor("blk.0.attn_output.weight", (32, 32), Q.Q5_1)
    file.tensor("blk.0.ffn_norm.weight", (32,))
    file.tensor("blk.0.ffn_up.weight", (128, 32), Q.Q4_0)
    file.tensor("blk.0.ffn_down.weight", (32, 64), Q.Q8_0)
    file.tensor("output_norm.weight", (32,))
    file.tensor("output.weight", (vocab, 32), Q.Q5_0)
    file.close()


CONFIG_KEYS = [
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "sliding_window",
    "layer_types", "query_pre_attn_scalar", "hidden_act", "hidden_activation", "attention_bias", "mlp_bias",
]


def expected(path):
    """Config and tensors by Transformers, except the vocabulary's size of a padded embedding, which the gguf package tells."""
    reader = GGUFReader(str(path))
    rows = int(next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight").shape[1])
    options = {"gguf_file": path.name, "dtype": torch.float32}
    if path.stem == "qwen2":
        # Transformers counts tokens, not rows, and then cannot load the embedding.
        from transformers import AutoConfig

        options["config"] = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, vocab_size=rows)
    model, report = AutoModelForCausalLM.from_pretrained(path.parent, output_loading_info=True, **options)
    missing = set(report["missing_keys"]) - {"lm_head.weight"}
    assert not missing and not report["mismatched_keys"], report
    config = model.config.to_dict()
    kept = {key: config[key] for key in CONFIG_KEYS if key in config}
    kept["rope_theta"] = rope_theta(config)
    tensors = {}
    for name, tensor in sorted(model.state_dict().items()):
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        values = tensor.to(torch.float32).contiguous().numpy()
        tensors[name] = {"shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest(), "first": float(values.flat[0])}
    return {"config": kept, "tensors": tensors}


def rope_theta(config):
    parameters = config.get("rope_parameters") or {}
    return parameters.get("rope_theta", config.get("rope_theta")) or parameters["full_attention"]["rope_theta"]


def ids(path):
    """Ids by Transformers, without and with the tokens that begin a text."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return {
        "plain": [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS],
        "framed": [tokenizer.encode(text) for text in TEXTS],
        "tokens": len(tokenizer),
    }


def digits_then_gpt2(path):
    """Ids with SmolLM's own pre-tokenizer, whose split of digits Transformers leaves out of what it reads in a GGUF file."""
    backend = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    backend = Tokenizer.from_str(backend.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return {"plain": [backend.encode(text, add_special_tokens=False).ids for text in TEXTS]}


def with_pre(path, pre, folder):
    """A copy of a byte-level file that names another pre-tokenizer."""
    copy = Path(folder) / f"{pre}.gguf"
    file = File(copy, "qwen2", 3)
    sizes(file, 1, 32, 64, 4, 2)
    byte_level(file, pre, 0, add_bos=False)
    file.tensor("token_embd.weight", (32, 32))
    file.close()
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures/gguf")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    models, tokenizers = {}, {}
    for write in [llama, mistral, qwen2, qwen3, gemma3, phi3]:
        path = out / f"{write.__name__}.gguf"
        write(path)
        models[write.__name__] = expected(path)
        tokenizers[write.__name__] = digits_then_gpt2(path) if write is llama else ids(path)
    pre = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ["gpt-2", "default", "llama-bpe", "tekken", "gpt-4o", "qwen2"]:
            pre[name] = ids(with_pre(out / "qwen2.gguf", name, folder))["plain"]
    expectation = {"texts": TEXTS, "models": models, "tokenizers": tokenizers, "pre_tokenizers": pre}
    (out / "expected.json").write_text(json.dumps(expectation, indent=None, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
