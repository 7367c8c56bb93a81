"""Writes fixtures/reference/families.json: what Transformers and PEFT compute on a small random model of each family.

The weights are a formula of their names and places (see `values`), which the test computes as well, so that no weights are
stored. All numbers are from models in f64, for which the parts that Transformers computes in f32 are replaced. For each
family: the logits of one row, the loss of two rows, two sums over the gradient of every LoRA matrix, and greedy tokens
from `generate` with its cache.
"""

import argparse
import json
import math
import tempfile
import types
import zlib
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0,
}
SLIDING, FULL = "sliding_attention", "full_attention"
FAMILIES = {
    "qwen3": {"head_dim": 16, "rope_theta": 1e6},
    "qwen3_windows": {
        "model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True, "use_sliding_window": True,
        "sliding_window": 5, "max_window_layers": 1, "attention_bias": True,
    },
    "smollm3": {"no_rope_layer_interval": 2, "rope_theta": 5e4},
    "smollm3_windows": {
        "model_type": "smollm3", "no_rope_layers": [1, 0, 0], "use_sliding_window": True, "sliding_window": 6,
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False,
    },
    "granite": {
        "embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 5.0,
        "tie_word_embeddings": True,
    },
    "olmo2": {"rms_norm_eps": 1e-5, "rope_theta": 5e5},
    "internlm3": {"head_dim": 8, "qkv_bias": True, "bias": True},
    "phi3": {"sliding_window": 7, "partial_rotary_factor": 0.5},
    "phi3_whole": {"model_type": "phi3", "tie_word_embeddings": True},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 5, "attn_logit_softcapping": 2.0,
               "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 5, "sliding_window_pattern": 3,
                    "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "falcon3": {"model_type": "llama", "head_dim": 16, "rope_theta": 1000042},
    "llama31": {"model_type": "llama", "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}},
}
R, ALPHA = 3, 6.0
ROWS = [(21, 8), (13, 1)]  # length, first predicted token
NEW_TOKENS = 6


def words(name, count):
    """Pseudo-random 32-bit words of a name: the finalizer of SplitMix64 over its checksum and the place."""
    start = np.uint64(zlib.crc32(name.encode()))
    with np.errstate(over="ignore"):
        word = (start << np.uint64(32)) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (word ^ (word >> np.uint64(31))) >> np.uint64(40)


def values(name, shape, spread, center=0.0):
    """Multiples of 2^-23 times `spread`, around `center`, rounded to f32: a function of the tensor's name and place."""
    unit = words(name, math.prod(shape)).astype(np.float64) / 2.0**23 - 1.0
    return torch.from_numpy((center + spread * unit).astype(np.float32).reshape(shape))


def weight(name, shape, model_type):
    """A tensor of the base: norms around 1 (or 0, where they are stored so), biases and matrices around 0."""
    if len(shape) == 2:
        return values(name, shape, 0.35)
    is_norm = "norm" in name
    return values(name, shape, 0.3, 1.0 if is_norm and not model_type.startswith("gemma") else 0.0)


def row(length, index):
    return [int(word) % (SMALL["vocab_size"] - 3) + 3 for word in words(f"row {index}", length)]


def _norm(self, x):
    eps = self.eps if hasattr(self, "eps") else self.variance_epsilon
    unit = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return unit * (1.0 + self.weight if hasattr(self, "eps") else self.weight)


def _rotary(self, x, position_ids, layer_type=None):
    frequencies = self.wide[layer_type]
    angle = position_ids[..., None].double() * frequencies
    table = torch.cat((angle, angle), dim=-1)
    return table.cos(), table.sin()


def frequencies(config, parameters):
    """Frequencies in f64: `default`, `linear` and `llama3`."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotated = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    plain = parameters["rope_theta"] ** -(torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    if parameters["rope_type"] == "default":
        return plain
    if parameters["rope_type"] == "linear":
        return plain / parameters["factor"]
    assert parameters["rope_type"] == "llama3", parameters
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    wavelength = 2 * math.pi / plain
    smooth = ((parameters["original_max_position_embeddings"] / wavelength - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * plain / parameters["factor"] + smooth * plain


def widen(model):
    """Computes norms, rotary tables and factors in f64; the weights keep their f32 values."""
    model.double()
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            config = module.config
            kinds = config.rope_parameters
            sets = kinds if SLIDING in kinds else {None: kinds}
            module.wide = {kind: frequencies(config, parameters) for kind, parameters in sets.items()}
            for kind, wide in module.wide.items():
                own = getattr(module, f"{kind}_inv_freq" if kind else "inv_freq")
                assert torch.allclose(own.double(), wide, rtol=1e-6), "the rotary rule differs from Transformers'"
            module.forward = types.MethodType(_rotary, module)
        elif kind.endswith("ScaledWordEmbedding"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        elif kind.endswith("Attention"):
            # Eager attention has a softmax in f32, which f64 avoids, and knows bounds, which others do not.
            module.config._attn_implementation = "eager"
    return model


def _softmax(original):
    def softmax(*arguments, dtype=None, **settings):
        return original(*arguments, **settings)
    return softmax


def log_losses(model, rows):
    """Mean negative log-likelihood of the predicted tokens."""
    picked = []
    for ids, (_, first) in zip(rows, ROWS):
        log = torch.log_softmax(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1], -1)
        picked.append(log.gather(1, torch.tensor(ids[1:])[:, None])[first - 1:, 0])
    return -torch.cat(picked).mean()


def greedy(model, prompt):
    """Greedy tokens by generate, which must be far from ties."""
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
    )[0].tolist()
    for end in range(len(prompt), len(out)):
        best = model(input_ids=torch.tensor([out[:end]]), use_cache=False).logits[0, -1].topk(2)
        assert best.indices[0] == out[end], "generate with its cache differs from plain decoding"
        assert best.values[0] - best.values[1] > 1e-3, "a tie decides a generated token"
    return out[len(prompt):]


def family(name, changes):
    """The config of a family and what is computed."""
    config = {"model_type": changes.get("model_type", name)} | SMALL | changes
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        read = AutoConfig.from_pretrained(folder, attn_implementation="eager")
    model = AutoModelForCausalLM.from_config(read, attn_implementation="eager")
    for key, tensor in model.named_parameters():
        tensor.data = weight(key, tuple(tensor.shape), config["model_type"])
    linears = {type_name.rsplit(".", 1)[-1] for type_name, module in model.named_modules()
               if isinstance(module, torch.nn.Linear) and not type_name.endswith("lm_head")}
    model.tie_weights()
    lora = LoraConfig(r=R, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=sorted(linears), task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    trained = {}
    for key, tensor in model.named_parameters():
        if tensor.requires_grad:
            key = key.replace(".default.", ".")
            tensor.data = values(key, tuple(tensor.shape), 0.25)
            trained[key] = tensor
    model = widen(model).eval()
    rows = [row(length, index) for index, (length, _) in enumerate(ROWS)]
    logits = model(input_ids=torch.tensor([rows[0]]), use_cache=False).logits[0]
    loss = log_losses(model, rows)
    gradients = torch.autograd.grad(loss, list(trained.values()))
    sums = {}
    for (key, tensor), gradient in zip(trained.items(), gradients):
        signs = values(f"signs of {key}", tuple(gradient.shape), 1.0).double()
        sums[key] = [(gradient * signs).sum().item(), gradient.norm().item()]
    with torch.no_grad():
        tokens = greedy(model, rows[1][:7])
    return {
        "name": name,
        "config": config,
        "targets": sorted(linears),
        "rows": [{"ids": ids, "first": first} for ids, (_, first) in zip(rows, ROWS)],
        "logits": [logits[position].tolist() for position in (0, 6, 20)],
        "loss": loss.item(),
        "gradients": sums,
        "prompt": rows[1][:7],
        "tokens": tokens,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).parents[2] / "fixtures" / "reference" / "families.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.nn.functional.softmax = _softmax(torch.nn.functional.softmax)
    lines = [json.dumps(family(name, changes), separators=(",", ":")) for name, changes in FAMILIES.items()]
    options.out.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
