"""Makes fixtures/reference/generation.json: what Transformers' `generate` answers greedily with fixtures/tiny-base.

    .venv/bin/python tests/reference/make_generation.py [--out fixtures/reference/generation.json]

Each prompt is generated alone, in f32, on one thread. A prompt is kept only if every token leads the second best by
LEAD_MIN, far above what the order of sums changes in f32, so that a test compares tokens and not rounding. The prompts left
out are counted.
"""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "fixtures" / "tiny-base"
BOS, EOS = "<s>", "</s>"
LEAD_MIN = 1e-3
NEW_TOKENS = 48
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{} \n\n### Response:"
)


def prompts():
    """Questions of the skills federation in its own template, some texts without one, and one far longer than the rest."""
    rows = json.loads((ROOT / "fixtures" / "skills" / "test.json").read_text())
    questions = [row["instruction"] for row in rows]
    yield from (PROMPT.format(question) for question in questions[:12])
    yield from (" ".join(question.split()[:n]) for n, question in zip((1, 2, 3, 5, 8), questions[12:]))
    yield PROMPT.format(" ".join(questions[20:32]))


def answer(model, tokenizer, prompt):
    """The answer to one prompt, and how far its closest token led."""
    ids = [tokenizer.token_to_id(BOS), *tokenizer.encode(prompt, add_special_tokens=False).ids]
    eos = tokenizer.token_to_id(EOS)
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
        max_new_tokens=NEW_TOKENS, eos_token_id=eos, pad_token_id=eos, output_logits=True, return_dict_in_generate=True,
    )
    new = out.sequences[0, len(ids):].tolist()
    tops = [logits[0].topk(2).values for logits in out.logits]
    lead = min(float(top[0] - top[1]) for top in tops)
    text = tokenizer.decode(new, skip_special_tokens=True)
    return {"prompt": prompt, "prompt_tokens": len(ids), "ids": new, "text": text, "ends": new[-1] == eos}, lead


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "fixtures" / "reference" / "generation.json")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    answers = [answer(model, tokenizer, prompt) for prompt in prompts()]
    clear = [(kept, lead) for kept, lead in answers if lead >= LEAD_MIN]
    written = {
        "new_tokens": NEW_TOKENS,
        "smallest_lead": round(min(lead for _, lead in clear), 6),
        "left_out_as_near_ties": sum(lead < LEAD_MIN for _, lead in answers),
        "answers": [kept for kept, _ in clear],
    }
    out.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
