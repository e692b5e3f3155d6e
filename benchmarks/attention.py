"""Training a transformer in bfloat16 on a CPU: fused attention, or step by step, by the length of texts.

    python -m benchmarks.attention [--model NAME] [--tokens 16,64,96,128,160,256]

Milliseconds of the processor for a batch of about `BATCH` tokens forward and back, the least of `ROUNDS` in turn, in
float32, in bfloat16 with fused attention and with attention step by step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from sdretrieval.encode.locate import locate_model

BATCH, ROUNDS = 1024, 3
WAYS = {"float32": (False, "sdpa"), "fused": (True, "sdpa"), "step by step": (True, "eager")}


def measure(name: str, lengths: Sequence[int]) -> list[str]:
    """Rows of the table."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(locate_model(name)), dtype=torch.float32)
    model.get_input_embeddings().requires_grad_(False)
    rows = []
    for tokens in lengths:
        ids = torch.randint(1000, 20_000, (max(2, BATCH // tokens), tokens))
        mask = torch.ones_like(ids)
        mask[0, -3:] = 0
        least = dict.fromkeys(WAYS, float("inf"))
        for _ in range(ROUNDS):
            for way, (reduced, attention) in WAYS.items():
                model.config._attn_implementation = attention
                began = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
                states.float().sum().backward()
                least[way] = min(least[way], 1000 * (time.process_time() - began))
        cells = " | ".join(f"{milliseconds:.0f}" for milliseconds in least.values())
        rows.append(f"| {tokens} | {cells} | {least['fused'] / least['step by step']:.1f} |")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--tokens", default="16,64,96,128,160,256")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| tokens of a text | {' | '.join(WAYS)} | times as fast |\n|---|---|---|---|---|")
    print("\n".join(measure(asked.model, [int(one) for one in asked.tokens.split(",")])))


if __name__ == "__main__":
    main()
