"""Writes fixtures/peft: what PEFT makes of every key of an adapter's config, and adapters whose modules differ in rank and scale.

    python tests/reference/make_peft_adapters.py fixtures/peft

Versions: tests/reference/requirements.txt. Nothing of FedReplay is used.

* `keys.json`: every field of PEFT's LoraConfig with its default.
* `plain/`: an adapter of rank 4 on q_proj and v_proj of a small Llama model.
* `outcomes.json`: for values of a key in the config of `plain/`: "plain" if PEFT then computes what it does without the key,
  "other" if it computes something else, "error" if it refuses the folder.
* One folder per case of CASES, with the product `scale B A` of each module by PEFT in `products.safetensors`.
"""

import json
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import fields
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

PLAIN = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])

CASES = {
    "ranks": dict(
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.0.self_attn.q_proj": 2, "v_proj": 6, r".*\.1\.mlp\.down_proj": 3},
        alpha_pattern={"q_proj": 12},
    ),
    # The first pattern that matches decides, in the order of the file: both match q_proj of layer 0.
    "ranks_in_order": dict(rank_pattern={"q_proj": 2, "layers.0.self_attn.q_proj": 6}),
    "ranks_stabilized": dict(use_rslora=True, rank_pattern={"^model.layers.1.self_attn.v_proj": 1}),
    "alphas": dict(alpha_pattern={"layers.[02].self_attn.(q|v)_proj": 3}),
    "one_rank_for_all": dict(r=7, rank_pattern={"self_attn.._proj": 4}),
    "expression": dict(target_modules=r"^(?!.*layers\.1\.)model(?=\.).*\.(q|down)_proj$"),
    "layers": dict(layers_to_transform=[0, 2], layers_pattern="layers"),
    "one_layer": dict(layers_to_transform=1),
    "all_linear": dict(target_modules="all-linear", use_rslora=True),
    "excluded": dict(target_modules="all-linear", exclude_modules=["mlp.up_proj", "q_proj"]),
    "excluded_by_expression": dict(exclude_modules=r".*\.2\..*"),
}

ABSENT = "(absent)"
OUTCOMES = {
    "task_type": [ABSENT, None, "CAUSAL_LM", "FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS"],
    "peft_type": ["LORA", "ADALORA"],
    "auto_mapping": [ABSENT, None, {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers"}],
    "peft_version": [ABSENT, None, "0.4.0"],
    "base_model_name_or_path": [ABSENT, None, "some/model"],
    "revision": [ABSENT, None, "main"],
    "inference_mode": [ABSENT, None, False, True],
    "target_modules": [None, ["v_proj"], ["q_proj", "v_proj", "o_proj"], r".*\.0\..*_proj", "all-linear", [], ".*(q|v)_proj"],
    "exclude_modules": [ABSENT, None, "", [], ["o_proj"], ["v_proj"], ".*o_proj", r".*\.0\..*"],
    "lora_dropout": [ABSENT, 0.0, 0.05],
    "fan_in_fan_out": [ABSENT, None, False, True],
    "bias": [ABSENT, "none"],
    "use_rslora": [ABSENT, None, False],
    "modules_to_save": [ABSENT, None, [], ["lm_head"], ["embed_tokens"]],
    "init_lora_weights": [
        ABSENT, None, True, False, "gaussian", "pissa", "pissa_niter_4", "olora", "OLoRA", "orthogonal", "eva", "mica", "corda",
        "loftq", "lora_ga", "unheard_of",
    ],
    "layers_to_transform": [ABSENT, None, [], [0, 1, 2], [0, 1], 0],
    "layers_pattern": [ABSENT, None, [], "", "layers"],
    "rank_pattern": [ABSENT, None, {}, {"k_proj": 3}, {"q_proj": 3}],
    "alpha_pattern": [ABSENT, None, {}, {"k_proj": 3}, {"q_proj": 8}],
    "megatron_config": [ABSENT, None, {}],
    "megatron_core": [ABSENT, None, "megatron.core", "other.core"],
    "trainable_token_indices": [ABSENT, None, [], {}, [1, 2], {"embed_tokens": [3]}],
    "loftq_config": [ABSENT, None, {}, {"loftq_bits": 4, "loftq_iter": 1}],
    "eva_config": [ABSENT, None, {"rho": 2.0}],
    "corda_config": [ABSENT, None, {"corda_method": "ipm"}],
    "lora_ga_config": [ABSENT, None, {"direction": "ArB2r"}],
    "use_dora": [ABSENT, None, False, True],
    "velora_config": [ABSENT, None, {}, {"num_groups": 2}],
    "alora_invocation_tokens": [ABSENT, None, [], [3, 5]],
    "use_qalora": [ABSENT, None, False, True],
    "qalora_group_size": [ABSENT, None, 16, 8],
    "monteclora_config": [ABSENT, None, {"num_samples": 2}],
    "layer_replication": [ABSENT, None, [], [[0, 2], [1, 3]]],
    "runtime_config": [ABSENT, None, {"ephemeral_gpu_offload": True}],
    "lora_bias": [ABSENT, None, False, True],
    "target_parameters": [ABSENT, None, [], ["mlp.down_proj.weight"]],
    "use_bdlora": [ABSENT, None, {"target_modules_bd_a": ["q_proj"], "nblocks": 2}],
    "arrow_config": [ABSENT, None, {}],
    "kasa_config": [ABSENT, None, {}],
    "ensure_weight_tying": [ABSENT, None, False, True],
}


def base():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=12, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def adapter(folder, config):
    """Saves an adapter with random matrices, and returns PEFT's product for each module."""
    model = get_peft_model(base(), LoraConfig(**{**PLAIN, **config}, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    (Path(folder) / "README.md").unlink()
    edit(folder, lambda written: written.update({key: value for key, value in config.items() if isinstance(value, dict)}))
    loaded = PeftModel.from_pretrained(base(), folder)
    products = {}
    for name, module in loaded.named_modules():
        if hasattr(module, "get_delta_weight"):
            products[name.removeprefix("base_model.model.")] = module.get_delta_weight("default").detach().contiguous()
    return products


def edit(folder, change):
    path = Path(folder) / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=1) + "\n")


def logits(folder):
    ids = torch.tensor([[1, 7, 3, 5, 9, 30, 2]])
    model = PeftModel.from_pretrained(base(), folder)
    if model.base_model.prefix not in ("lora_",):
        raise ValueError("not LoRA")
    with torch.no_grad():
        return model.base_model.model(ids).logits


def outcome(plain, expected, key, value):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(plain, folder, dirs_exist_ok=True)
        edit(folder, lambda config: config.pop(key, None) if value == ABSENT else config.update({key: value}))
        try:
            found = logits(folder)
        except Exception:
            return "error"
    return "plain" if torch.allclose(found, expected, rtol=1e-6, atol=1e-6) else "other"


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    defaults = LoraConfig().to_dict()
    keys = {field.name: defaults.get(field.name) for field in fields(LoraConfig)}
    (out / "keys.json").write_text(json.dumps(keys, indent=1, default=str) + "\n")
    adapter(out / "plain", {})
    expected = logits(out / "plain")
    lines = []
    for key, values in OUTCOMES.items():
        for value in values:
            row = {"key": key, "outcome": outcome(out / "plain", expected, key, value)}
            if value != ABSENT:
                row["value"] = value
            lines.append(json.dumps(row))
    (out / "outcomes.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    for name, config in CASES.items():
        save_file(adapter(out / name, config), out / name / "products.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
