"""The decoder written out plainly in f64, and the same precision for Transformers' own modules.

Transformers computes RMSNorm, the rotary tables and parts of the loss in f32 whatever the model's type is. A reference
that is to be met at 1e-8 must not do that, so `widen` replaces those pieces. `plain_logits` is an independent witness:
it shares no code with Transformers, and the script requires that both agree to 1e-11.
"""

import math
import types

import torch


def inverse_frequencies(config):
    """RoPE's inverse frequencies [head_dim / 2] in f64: `default`, `linear` and `llama3`."""
    rope = config.rope_parameters
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    plain = rope["rope_theta"] ** -exponent
    if rope["rope_type"] == "default":
        return plain
    if rope["rope_type"] == "linear":
        return plain / rope["factor"]
    assert rope["rope_type"] == "llama3", rope
    context, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wavelength = 2 * math.pi / plain
    smooth = ((context / wavelength - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * plain / factor + smooth * plain


def widen(model):
    """Turns a Transformers decoder into one that computes everything in f64; its weights keep their f32 values."""
    model.double()
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(_wide_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            wide = inverse_frequencies(module.config)
            assert torch.allclose(module.inv_freq.double(), wide, rtol=1e-6), "the rotary rule differs from Transformers'"
            module.inv_freq = wide
            module.forward = types.MethodType(_wide_rotary, module)
    return model


def _wide_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def _wide_rotary(self, x, position_ids):
    angle = position_ids[..., None].double() * self.inv_freq
    table = torch.cat((angle, angle), dim=-1)
    return table.cos(), table.sin()


def plain_logits(model, adapter, scaling, ids):
    """Logits [tokens, vocabulary] of one row, in f64. `adapter` maps PEFT's file keys to tensors, or is empty."""
    config = model.config
    weights = {k: v.double() for k, v in model.state_dict().items()}
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    length = len(ids)
    position = torch.arange(length)
    angle = position.double()[:, None] * inverse_frequencies(config)
    distance = position[:, None] - position[None, :]
    window = getattr(config, "sliding_window", None) or length
    visible = (distance >= 0) & (distance < window)

    def linear(name, x):
        y = x @ weights[name + ".weight"].T
        if name + ".bias" in weights:
            y = y + weights[name + ".bias"]
        key = f"base_model.model.{name}.lora_"
        if key + "A.weight" in adapter:
            y = y + scaling * (x @ adapter[key + "A.weight"].double().T @ adapter[key + "B.weight"].double().T)
        return y

    def norm(name, x):
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * weights[name + ".weight"]

    def rotate(x):
        left, right = x.chunk(2, dim=-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)

    def split(x, count):
        return x.view(length, count, head_dim).transpose(0, 1).repeat_interleave(heads // count, dim=0)

    x = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}."
        h = norm(layer + "input_layernorm", x)
        q = rotate(split(linear(layer + "self_attn.q_proj", h), heads))
        k = rotate(split(linear(layer + "self_attn.k_proj", h), kv_heads))
        v = split(linear(layer + "self_attn.v_proj", h), kv_heads)
        score = (q @ k.transpose(1, 2) / math.sqrt(head_dim)).masked_fill(~visible, -math.inf)
        mixed = (score.softmax(-1) @ v).transpose(0, 1).reshape(length, heads * head_dim)
        x = x + linear(layer + "self_attn.o_proj", mixed)
        h = norm(layer + "post_attention_layernorm", x)
        gate = linear(layer + "mlp.gate_proj", h)
        x = x + linear(layer + "mlp.down_proj", gate * gate.sigmoid() * linear(layer + "mlp.up_proj", h))
    return norm("model.norm", x) @ weights["lm_head.weight"].T
