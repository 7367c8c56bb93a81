"""Tokens a second of Transformers' greedy `generate` on the prompts of benches/generate.rs, one JSON line.

    python benches/peer/generate.py FOLDER

FOLDER and the environment (BATCH, PROMPT, NEW, THREADS, REPEATS) are those of benches/generate.rs. The end token is switched
off, so that both sides generate the same number of tokens.
"""

import json
import os
import sys
import time

import torch

import workload


def setting(name, default):
    return int(os.environ.get(name, default))


def main():
    torch.set_num_threads(setting("THREADS", 1))
    folder = sys.argv[1]
    batch, prompt, new = setting("BATCH", 8), setting("PROMPT", 32), setting("NEW", 64)
    model = workload.base_model(None, folder=folder).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([row["ids"][:prompt] for row in workload.read_rows(folder)[:batch]])
    seconds, total = [], 0
    for _ in range(setting("REPEATS", 3)):
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, pad_token_id=0)
        seconds.append(time.perf_counter() - began)
        total = int(out[:, prompt:].sum())
    print(json.dumps({"best_s": min(seconds), "seconds": seconds, "tokens": batch * new, "id_sum": total}))


if __name__ == "__main__":
    main()
