"""The models and token rows that both sides of a comparison work on.

    python benches/peer/workload.py tiny FOLDER

writes FOLDER/model (Hugging Face folder, random weights), FOLDER/adapter_zero (PEFT folder, B = 0) and FOLDER/rows.json
(token ids and response masks), so that another program can be measured on the same weights and tokens, and its losses compared.
"""

import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

# Shape by name, and the batch that a step is measured with: rows x tokens.
SHAPES = {
    "tiny": {"hidden": 128, "inner": 384, "layers": 4, "heads": 4, "vocabulary": 1000, "rows": 4, "tokens": 128},
    "smollm2": {"hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocabulary": 49152, "tied": True, "rows": 4, "tokens": 512},
    "smollm2-real": {"hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocabulary": 49152, "tied": True, "rows": 16, "tokens": 512},
    "160m": {"hidden": 768, "inner": 3072, "layers": 12, "heads": 12, "vocabulary": 32000, "rows": 4, "tokens": 512},
    "1.1b": {"hidden": 2048, "inner": 5632, "layers": 22, "heads": 32, "kv_heads": 4, "vocabulary": 32000, "rows": 1, "tokens": 128},
    "7b": {"hidden": 4096, "inner": 11008, "layers": 32, "heads": 32, "vocabulary": 32000, "rows": 4, "tokens": 1024},
}
RESPONSE_SHARE = 0.4
# Lengths of the first turns of 16 real conversations, in batches of four; most of each is learnt.
REAL_LENGTHS = [[512, 346, 512, 262], [488, 512, 300, 512], [512, 272, 455, 512], [346, 512, 435, 512]]
REAL_RESPONSE_SHARE = 0.85
RANK = 16
ALPHA = 32
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def llama_config(shape):
    """Transformers' configuration of one of SHAPES."""
    return LlamaConfig(
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape.get("kv_heads", shape["heads"]),
        vocab_size=shape["vocabulary"],
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=shape.get("tied", False),
    )


def base_model(name, dtype="f32", device="cpu", folder=None):
    """The frozen base: from FOLDER/model if a folder is given, else with random weights of seed 0."""
    if folder:
        return LlamaForCausalLM.from_pretrained(Path(folder) / "model", dtype=DTYPES[dtype]).to(device)
    torch.manual_seed(0)
    torch.set_default_dtype(DTYPES[dtype])
    with torch.device(device):
        model = LlamaForCausalLM(llama_config(SHAPES[name]))
    torch.set_default_dtype(torch.float32)
    return model


def with_lora(model, dropout=0.0):
    """The model with fresh LoRA on q_proj and v_proj; the adapter is f32 whatever the base is, as PEFT has it by default."""
    torch.manual_seed(1)
    return get_peft_model(
        model,
        LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=dropout,
            bias="none",
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
        ),
    )


def token_rows(name, count, seed=2):
    """`count` full rows of random tokens; the last 40 % of each are its response."""
    shape = SHAPES[name]
    draw = torch.Generator().manual_seed(seed)
    tokens = shape["tokens"]
    response = round(tokens * RESPONSE_SHARE)
    mask = [0] * (tokens - response) + [1] * response
    ids = torch.randint(3, shape["vocabulary"], (count, tokens), generator=draw).tolist()
    return [{"ids": row, "response": mask} for row in ids]


def batches(name, rows):
    """The rows in the batches that steps take by turns."""
    if name != "smollm2-real":
        return [rows[: SHAPES[name]["rows"]]]
    cut = []
    for lengths in REAL_LENGTHS:
        batch = []
        for length in lengths:
            row = rows[len(cut) * 4 + len(batch)]
            learnt = round(length * REAL_RESPONSE_SHARE)
            batch.append({"ids": row["ids"][:length], "response": [0] * (length - learnt) + [1] * learnt})
        cut.append(batch)
    return cut


def read_rows(folder):
    """The rows of FOLDER/rows.json."""
    return json.loads((Path(folder) / "rows.json").read_text())


def batch_tensors(rows, device="cpu"):
    """Token ids, attention mask and labels [rows, tokens] of rows of any length, padded at the right."""
    width = max(len(row["ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        n = len(row["ids"])
        ids[i, :n], mask[i, :n] = torch.tensor(row["ids"]), 1
        labels[i, :n] = torch.where(torch.tensor(row["response"]) == 1, ids[i, :n], -100)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=40, help="rows in rows.json: ten steps of four")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu", help="where the random weights are drawn: a large model is quicker on cuda")
    options = parser.parse_args()
    model = base_model(options.shape, options.dtype, options.device)
    model.save_pretrained(options.folder / "model")
    lora = with_lora(model)
    lora.peft_config["default"].base_model_name_or_path = "../model"
    lora.save_pretrained(options.folder / "adapter_zero")
    (options.folder / "rows.json").write_text(json.dumps(token_rows(options.shape, options.rows)) + "\n")


if __name__ == "__main__":
    main()
