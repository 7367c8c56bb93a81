"""LoRA training of SmolLM2-135M-Instruct by Transformers and PEFT, for the clock's comparison with real training.

A client trains on its own chats, joined and cut into rows of the planned length, with one thread, and sends its adapter; the server
averages the adapters. Messages are an adapter's values in f32.
"""

import json
import os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "models/smollm2-135m-instruct"
ROWS = ROOT / "models/rows.json"


class Server:
    """The mean of the clients' adapters, at first that of one that changes nothing."""

    def __init__(self, tasks: list[dict]):
        self.adapter = np.zeros(tasks[0]["bytes_down"] // 4, dtype=np.float32)

    def message(self, task: dict) -> bytes:
        return self.adapter.tobytes()

    def aggregate(self, updates: list[bytes]) -> None:
        self.adapter = np.mean([np.frombuffer(update, dtype=np.float32) for update in updates], axis=0)


class Client:
    """A client's model and rows. The first round's message has no adapter yet, and PEFT's own initialization is kept."""

    def __init__(self, tasks: list[dict], client: int):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Real-time priority is for processes that only move bytes.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        torch.set_num_threads(1)
        torch.manual_seed(client)
        task = next(task for task in tasks if task["client"] == client)
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.rows = rows(tokenizer, client, task["length"])
        base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        base.config.use_cache = False
        config = LoraConfig(r=task["rank"], lora_alpha=2 * task["rank"], target_modules=["q_proj", "v_proj"])
        self.model = get_peft_model(base, config).train()
        self.adapter = [value for value in self.model.parameters() if value.requires_grad]
        # The first steps of a process are slower than the others, and belong to no task.
        self.steps({**task, "steps": 2})

    def train(self, task: dict, message: bytes) -> bytes:
        import torch

        received = torch.frombuffer(message, dtype=torch.float32)
        if received.any():
            torch.nn.utils.vector_to_parameters(received, self.adapter)
        self.steps(task)
        update = torch.nn.utils.parameters_to_vector(self.adapter).detach().numpy().tobytes()
        assert len(update) == task["bytes_up"], "the planned adapter has as many values as the real one"
        return update

    def steps(self, task: dict) -> None:
        import torch

        # A task begins with an optimizer of its own, as it does in FedReplay.
        optimizer = torch.optim.AdamW(self.adapter, lr=1e-4)
        for _ in range(task["steps"]):
            batch = torch.tensor([next(self.rows) for _ in range(task["batch"])])
            self.model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def rows(tokenizer, client: int, length: int):
    """Yields rows of token ids, from the beginning again after the last one."""
    chats = list(json.loads(ROWS.read_text()).values())[client]
    tokens = [token for chat in chats for token in tokenizer(chat["instruction"] + "\n" + chat["response"] + tokenizer.eos_token).input_ids]
    cut = [tokens[at : at + length] for at in range(0, len(tokens) - length + 1, length)]
    while True:
        yield from cut
