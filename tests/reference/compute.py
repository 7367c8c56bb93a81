"""What is computed on a model with an adapter: logits, losses, gradients, ten steps of training, DPO.

Every row is run alone (batch of one, no padding, no attention mask), so padding cannot influence a number.
All arithmetic after the logits is in the logits' type.
"""

import math

import torch
import torch.nn.functional as F

CLIP_NORM = 1.0
BETA = 0.1
OPTIMIZERS = {
    "adamw": {"rule": "torch.optim.AdamW", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    "adamw_per_token": {"rule": "torch.optim.AdamW", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    # The large eps makes the two rules differ by much more than the tolerance of the tests.
    "adamw_transformers": {"rule": "transformers 4 AdamW", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-3, "weight_decay": 0.01},
    "sgd": {"rule": "torch.optim.SGD", "lr": 0.3, "momentum": 0.9, "weight_decay": 0.0},
}


class TransformersAdamW(torch.optim.Optimizer):
    """AdamW as Transformers 4 had it: eps joins sqrt(v) before v's bias is corrected, and weights decay after the step."""

    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(count=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["count"] += 1
                state["m"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                state["v"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                correction1, correction2 = 1 - beta1 ** state["count"], 1 - beta2 ** state["count"]
                rate = group["lr"] * math.sqrt(correction2) / correction1
                p.addcdiv_(state["m"], state["v"].sqrt().add_(group["eps"]), value=-rate)
                p.add_(p, alpha=-group["lr"] * group["weight_decay"])


def make_optimizer(settings, params):
    """The optimiser that `settings` names, over `params`."""
    kinds = {
        "torch.optim.AdamW": torch.optim.AdamW,
        "torch.optim.SGD": torch.optim.SGD,
        "transformers 4 AdamW": TransformersAdamW,
    }
    arguments = {k: v for k, v in settings.items() if k != "rule"}
    return kinds[settings["rule"]](params, **arguments)


def row_logits(model, row):
    """Logits [tokens, vocabulary] of one row."""
    return model(input_ids=torch.tensor([row["ids"]]), use_cache=False).logits[0]


def target_log_probs(model, row):
    """Log-probability of each response token given all tokens before it."""
    log_probs = F.log_softmax(row_logits(model, row)[:-1], dim=-1)
    picked = log_probs.gather(1, torch.tensor(row["ids"][1:])[:, None])[:, 0]
    return picked[torch.tensor(row["response"][1:], dtype=torch.bool)]


def batch_loss(model, rows):
    """Mean negative log-likelihood over all response tokens of the micro-batch [nats per token], and their number."""
    picked = torch.cat([target_log_probs(model, row) for row in rows])
    return -picked.mean(), picked.numel()


def file_key(name):
    """PEFT's name of a tensor in adapter_model.safetensors, from its name in memory."""
    return name.replace(".default.", ".")


def trainable(model):
    """File key -> parameter, in the model's order, of all that is trained."""
    return {file_key(n): p for n, p in model.named_parameters() if p.requires_grad}


def gradients(model, loss, prefix):
    """Gradient of `loss` by every LoRA tensor."""
    params = trainable(model)
    grads = torch.autograd.grad(loss, list(params.values()))
    return {prefix + key: g for key, g in zip(params, grads)}


def train(model, rows, plan, name):
    """Runs the plan with optimiser `name`; returns losses, gradient norms before clipping, and the final adapter."""
    params = trainable(model)
    optimizer = make_optimizer(OPTIMIZERS[name], list(params.values()))
    micro_losses, norms = [], []
    for step in plan:
        optimizer.zero_grad()
        losses, counts = zip(*(batch_loss(model, [rows[i] for i in micro]) for micro in step))
        if name == "adamw_per_token":
            shares = [n / sum(counts) for n in counts]
        else:
            shares = [1 / len(step)] * len(step)
        sum(share * loss for share, loss in zip(shares, losses)).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(params.values()), CLIP_NORM))
        optimizer.step()
        micro_losses.append(torch.stack([loss.detach() for loss in losses]))
    prefix = f"train.{name}."
    result = {prefix + "micro_loss": torch.stack(micro_losses), prefix + "grad_norm": torch.stack(norms)}
    return result | {f"{prefix}adapter.{key}": p.detach().clone() for key, p in params.items()}


def preference(model, pairs):
    """DPO with the sigmoid loss: the reference is the same model with its adapter switched off."""
    chosen, rejected = ([pair[side] for pair in pairs] for side in ("chosen", "rejected"))

    def summed(rows):
        return torch.stack([target_log_probs(model, row).sum() for row in rows])

    policy_chosen, policy_rejected = summed(chosen), summed(rejected)
    with torch.no_grad(), model.disable_adapter():
        reference_chosen, reference_rejected = summed(chosen), summed(rejected)
    rewards_chosen = BETA * (policy_chosen - reference_chosen)
    rewards_rejected = BETA * (policy_rejected - reference_rejected)
    pair_loss = -F.logsigmoid(rewards_chosen - rewards_rejected)
    result = {
        "dpo.loss": pair_loss.mean()[None],
        "dpo.pair_loss": pair_loss,
        "dpo.rewards_chosen": rewards_chosen,
        "dpo.rewards_rejected": rewards_rejected,
        "dpo.policy_chosen": policy_chosen,
        "dpo.policy_rejected": policy_rejected,
        "dpo.reference_chosen": reference_chosen,
        "dpo.reference_rejected": reference_rejected,
    }
    return result | gradients(model, pair_loss.mean(), "dpo.grad.")


def padded_loss(model, rows):
    """The same micro-batch's loss as Transformers computes it itself: right padding, attention mask, labels of -100."""
    width = max(len(row["ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        n = len(row["ids"])
        ids[i, :n], mask[i, :n] = torch.tensor(row["ids"]), 1
        labels[i, :n] = torch.where(torch.tensor(row["response"]) == 1, ids[i, :n], -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
