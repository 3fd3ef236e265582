"""How much of the held-out set the model gets right, greedily.

A conversation's last exchange counts as right if every turn of it is, to the letter. Each turn is checked by one forward pass
over the right text: if every next token is the likeliest there, then greedy decoding writes exactly it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from tools.demo_model.conversations import Conversation, Exchange, Maker, written
from tools.demo_model.render import NO_THOUGHT, head

SEED = 7_000_003


@dataclass(frozen=True)
class Score:
    """(right, asked) by what was asked for."""

    by_kind: dict[str, tuple[int, int]]

    @property
    def right(self) -> float:
        asked = sum(count for _, count in self.by_kind.values())
        return sum(right for right, _ in self.by_kind.values()) / asked

    def line(self) -> str:
        parts = [f"{kind} {right}/{asked}" for kind, (right, asked) in sorted(self.by_kind.items())]
        return f"held out: {100 * self.right:.1f} %  ({', '.join(parts)})"


def held_out(count: int, seed: int = SEED, invented: float = 0.0) -> list[Conversation]:
    """Of these only the last exchange is asked; the ones before are context."""
    maker = Maker(seed, held_out=True, invented=invented)
    return [maker.conversation(most=2) for _ in range(count)]


def measure(model: Qwen3ForCausalLM, tokenizer: Tokenizer, count: int, invented: float = 0.0) -> Score:
    model.eval()
    tally: dict[str, list[bool]] = defaultdict(list)
    for conversation in held_out(count, SEED + int(invented * 100), invented):
        exchange = conversation.exchanges[-1]
        tally[exchange.kind + (", thinking" if exchange.thinks else "")].append(
            _is_right(model, tokenizer, conversation)
        )
    model.train()
    return Score({kind: (sum(rights), len(rights)) for kind, rights in tally.items()})


def _is_right(model: Qwen3ForCausalLM, tokenizer: Tokenizer, conversation: Conversation) -> bool:
    ids: list[int] = []
    wanted: list[int] = []  # places of the tokens that the model has to write
    for text, is_written in asked(conversation):
        found = tokenizer.encode(text).ids
        if is_written:
            wanted += range(len(ids), len(ids) + len(found))
        ids += found
    with torch.no_grad():
        best = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1)
    return all(int(best[at - 1]) == ids[at] for at in wanted)


def asked(conversation: Conversation) -> list[tuple[str, bool]]:
    """As the template renders it: past exchanges plain, the last one with its thoughts."""
    found = [(head(conversation), False)]
    for exchange in conversation.exchanges:
        found.append((f"<|im_start|>user\n{exchange.user}<|im_end|>\n", False))
        found += _turns(exchange, exchange is conversation.exchanges[-1])
    return found


def _turns(exchange: Exchange, is_asked: bool) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for step in exchange.steps:
        said = written(step) + "<|im_end|>"
        found.append(("<|im_start|>assistant\n", False))
        if not is_asked:
            found.append((said, False))
        elif exchange.thinks:
            thought = f"<think>\n{step.reasoning}\n</think>\n\n" if step.reasoning else NO_THOUGHT
            found.append((thought + said, True))
        else:
            found += [(NO_THOUGHT, False), (said, True)]
        told = "".join(f"\n<tool_response>\n{result}\n</tool_response>" for result in step.results)
        found.append((f"\n<|im_start|>user{told}<|im_end|>\n" if told else "\n", False))
    return found
