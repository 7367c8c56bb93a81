"""Writes src/model/config/defaults.json: the keys that Transformers knows in a config.json, with their defaults.

`classes` has, for each model_type that FedReplay loads, every key of the class's own and its default. `without_effect`
lists the keys of every class that say how a model is stored, called or sampled from, and never what it computes.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).parents[2] / "src" / "model" / "config" / "defaults.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    generic = generic_keys()
    table = {
        "transformers": transformers.__version__,
        "without_effect": sorted((generic - {"tie_word_embeddings", "quantization_config"}) | NO_FUNCTION),
        "classes": {name: class_keys(name, generic) for name in CLASSES},
    }
    options.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
