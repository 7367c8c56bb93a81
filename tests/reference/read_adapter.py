"""Reads an adapter folder with PEFT and tells whether all of it arrived: for adapters that another program wrote.

    python tests/reference/read_adapter.py MODEL_FOLDER ADAPTER_FOLDER

Exits with 1 if a tensor of the file is not in the model bit for bit, if a LoRA tensor of the model is not in the file, or if a
non-zero adapter changes no logit. On success prints one JSON object.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    base = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    ids = torch.arange(3, 23)[None] % base.config.vocab_size
    with torch.no_grad():
        before = base(input_ids=ids).logits
        model = PeftModel.from_pretrained(base, options.adapter).eval()
        after = model(input_ids=ids).logits
    written = load_file(options.adapter / "adapter_model.safetensors")
    held = get_peft_model_state_dict(model)
    strays = sorted(written.keys() ^ held.keys())
    if strays:
        sys.exit(f"{len(strays)} tensors are in the file or in the model only, the first is {strays[0]}")
    changed = [key for key in written if not torch.equal(written[key].float(), held[key].float())]
    if changed:
        sys.exit(f"{len(changed)} tensors differ after loading, the first is {changed[0]}")
    effect = (after - before).abs().max().item()
    is_zero = all((t == 0).all() for key, t in written.items() if ".lora_B." in key)
    if (effect == 0) != is_zero or not torch.isfinite(after).all():
        sys.exit(f"the adapter's largest effect on a logit is {effect}, and its B is {'zero' if is_zero else 'not zero'}")
    print(json.dumps({"tensors": len(written), "largest_logit_change": effect}))


if __name__ == "__main__":
    main()
