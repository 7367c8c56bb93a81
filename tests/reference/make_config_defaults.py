"""Writes src/model/config/defaults.json: the keys that Transformers knows in a config.json, with their defaults.

`classes` has, for each model_type that FedReplay loads, every key of the class's own and its default. `without_effect`
lists the keys of every class that say how a model is stored, called or sampled from, and never what it computes. `ignored`
lists, for each class, keys of other classes with which a small model of it trains and generates to the bit as without them.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig

CLASSES = [
    "gemma2", "gemma3_text", "granite", "internlm3", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
]

# Keys of a class that are about tokens, storage or initial values.
NO_FUNCTION = {"bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "use_cache", "pretraining_tp"}


def generic_keys():
    """Keys of every class, and those of generation that older releases wrote into config.json."""
    fields = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    written = set(PreTrainedConfig().to_dict())
    return fields | written | set(GenerationConfig._get_default_generation_params())


def class_keys(model_type, generic):
    """The class's own keys and their defaults, before the class computes values from other keys."""
    config = type(AutoConfig.for_model(model_type))
    keys = {}
    for field in dataclasses.fields(config):
        if field.name.startswith("_") or field.name in NO_FUNCTION:
            continue
        if field.name in generic and field.name != "tie_word_embeddings":
            continue
        value = field.default if field.default is not dataclasses.MISSING else None
        keys[field.name] = value
    theta = config.default_theta
    keys["rope_theta"] = theta["global"] if isinstance(theta, dict) else theta
    if isinstance(theta, dict):
        keys["rope_local_base_freq"] = theta["local"]
    return dict(sorted(keys.items()))


LAYERS = 2
SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}
SLIDING, FULL = "sliding_attention", "full_attention"
# For each key that only some classes have, values that change what these compute.
PROBES = {
    "attention_bias": [True], "attention_multiplier": [0.4], "attn_logit_softcapping": [0.5], "embd_pdrop": [0.5],
    "embedding_multiplier": [3.0], "final_logit_softcapping": [0.5], "head_dim": [16], "hidden_act": ["gelu", "relu"],
    "hidden_activation": ["gelu", "relu"], "layer_types": [[SLIDING] * LAYERS, [SLIDING, FULL] * (LAYERS // 2)],
    "logits_scaling": [3.0], "max_window_layers": [0, 1], "mlp_bias": [True], "no_rope_layer_interval": [1, 2],
    "no_rope_layers": [[0] * LAYERS, [1, 0] * (LAYERS // 2)], "original_max_position_embeddings": [8],
    "query_pre_attn_scalar": [3.0], "resid_pdrop": [0.5], "residual_multiplier": [0.4], "rope_local_base_freq": [5.0],
    "sliding_window": [4], "use_bidirectional_attention": [True], "use_sliding_window": [True],
}
# A key may matter only beside another, which a file then has as well.
BESIDE = [{}, {"sliding_window": 4, "use_sliding_window": True}, {"layer_types": [SLIDING, FULL] * (LAYERS // 2)}]


def computed(model_type, changes):
    """The loss in training, and what the model generates with its cache; None if the class refuses the values."""
    try:
        return computed_by(AutoConfig.for_model(model_type, **SMALL, **changes))
    except Exception:
        return None


def computed_by(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) * 0.3)
    ids = torch.tensor([[1, 17, 5, 33, 60, 8, 21, 74, 9, 40, 3, 90]])
    torch.manual_seed(1)
    loss = model.train()(ids, labels=ids).loss
    loss.backward()
    gradients = [parameter.grad.double().abs().sum().item() for parameter in model.parameters() if parameter.grad is not None]
    texts = model.eval().generate(
        ids, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True, eos_token_id=None
    )
    return [loss.item(), *gradients, *(logits.double().sum().item() for logits in texts.logits)]


def ignored_keys(model_type, own):
    """Keys of other classes that change nothing in this one."""
    found = []
    for key, values in PROBES.items():
        if key in own:
            continue
        is_ignored = True
        for beside in BESIDE:
            known = {name: value for name, value in beside.items() if name != key}
            expected = computed(model_type, known)
            if expected is not None:
                is_ignored &= all(computed(model_type, known | {key: value}) == expected for value in values)
        if is_ignored:
            found.append(key)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).parents[2] / "src" / "model" / "config" / "defaults.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    generic = generic_keys()
    classes = {name: class_keys(name, generic) for name in CLASSES}
    foreign = set().union(*classes.values()) - set.intersection(*map(set, classes.values()))
    assert foreign == set(PROBES), foreign ^ set(PROBES)
    table = {
        "transformers": transformers.__version__,
        "without_effect": sorted((generic - {"tie_word_embeddings", "quantization_config"}) | NO_FUNCTION),
        "classes": classes,
        "ignored": {name: ignored_keys(name, own) for name, own in classes.items()},
    }
    options.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
