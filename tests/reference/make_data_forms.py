"""Data files as other tools write them, with the values that those tools read from them: `fixtures/forms`.

    python make_data_forms.py ../../fixtures/forms ../../fixtures/tiny-base

Needs pyarrow 26.0.1 and transformers 5.23.0. A value is `str` of what `to_pylist` returns; ids are those of
`apply_chat_template`.
"""

import datetime
import decimal
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CHAT_ML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
CODECS = ["snappy", "gzip", "brotli", "lz4", "zstd", "none"]
SCALARS = {
    "string": pa.array(["7 and 8"]),
    "large_string": pa.array(["7 and 8"], pa.large_string()),
    "string_view": pa.array(["7 and 8"], pa.string_view()),
    "dictionary": pa.array(["7 and 8"]).dictionary_encode(),
    "int8": pa.array([-78], pa.int8()),
    "int16": pa.array([78], pa.int16()),
    "int32": pa.array([78], pa.int32()),
    "int64": pa.array([2**62], pa.int64()),
    "uint8": pa.array([78], pa.uint8()),
    "uint16": pa.array([78], pa.uint16()),
    "uint32": pa.array([78], pa.uint32()),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "float16": pa.array([7.8], pa.float16()),
    "float32": pa.array([7.8], pa.float32()),
    "float64": pa.array([1e16], pa.float64()),
    "bool": pa.array([True]),
    "decimal": pa.array([decimal.Decimal("7.80")]),
    "small_decimal": pa.array([decimal.Decimal("0.00000001")]),
    "date": pa.array([datetime.date(2026, 1, 2)]),
    "time": pa.array([datetime.time(3, 4, 5, 6)]),
    "timestamp": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5)]),
    "timestamp_ms": pa.array([1500], pa.timestamp("ms")),
    "timestamp_utc": pa.array([500], pa.timestamp("us", "UTC")),
    "timestamp_offset": pa.array([0], pa.timestamp("us", "+05:30")),
}


def parquet(folder):
    def message(role, content):
        return {"role": role, "content": content}

    for codec in CODECS:
        table = pa.table({"instruction": ["Add 1 and 2", "Say hi"], "response": ["3", "Hi"]})
        pq.write_table(table, folder / f"{codec}.parquet", compression=codec)
    pq.write_table(pa.table(SCALARS), folder / "scalars.parquet")
    chat = [message("system", "Be brief."), message("user", "q"), message("assistant", "good")]
    pq.write_table(pa.table({"messages": [chat]}), folder / "messages.parquet")
    pair = {
        "prompt": ["q"],
        "chosen": [[message("user", "q"), message("assistant", "good")]],
        "rejected": [[message("user", "q"), message("assistant", "bad")]],
        "score": [0.5],
    }
    pq.write_table(pa.table(pair), folder / "ultrafeedback.parquet")
    values = {name: str(column.to_pylist()[0]) for name, column in SCALARS.items()}
    (folder / "scalars.json").write_text(json.dumps(values, indent=1) + "\n")


def system_prompts(folder, base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT_ML
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add 1 and 2"},
        {"role": "assistant", "content": "It is 3."},
    ]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    case = {"template": CHAT_ML, "messages": messages, "ids": list(ids)}
    (folder / "system_prompt.json").write_text(json.dumps(case) + "\n")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    parquet(out)
    system_prompts(out, sys.argv[2])
