"""Trains the demo model: `python -m tools.demo_model.train OUT`. About an hour on two cores with bfloat16.

First lessons: requests with nothing around them, so that a name that has to be copied stands a few tokens away. In a whole
conversation a model this small does not find it in the time. Then comparisons alone, many in a text: which number is the greater
is one token of a hundred in a conversation, and was never learned there. Then conversations. The loss is on the assistant's
tokens alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import torch
from msgspec import Struct
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from tools.demo_model import tokenizer as own_tokenizer
from tools.demo_model.conversations import Conversation, Maker
from tools.demo_model.measure import measure
from tools.demo_model.render import pieces

SEED = 20261126
STEPS = 4500
#: Tokens in a batch of the lessons of each level, and the most steps spent on it.
LESSONS = ((2048, 600), (2048, 600), (4096, 500))
#: Steps spent on comparisons alone, and how many steps of the conversations pass before they are had again.
COMPARING = 700
COMPARING_AGAIN = 6
#: Of the tokens of a level, this part has to be right before the next one.
MASTERED = 0.985
BATCH_TOKENS = 4096
COMPARING_TOKENS = 512
MAX_TOKENS = 1024
PEAK_RATE = 1.5e-3
LAST_RATE = 5e-5
#: The embeddings are tied to the head, so the softmax pulls all rows of the vocabulary at every step, and Adam makes each pull a
#: full one: from the usual small beginning, tokens that are rare become one and the same before anything is copied by them.
EMBEDDING_SPREAD = 0.3
EMBEDDING_RATE = 0.1
WARM_UP = 100
POOL = 768
WIDTH_STEP = 64
ROW_STEP = 4
SCORED_STEP = 512
IGNORED = -100

#: (token ids, which of them the model has to write)
Example = tuple[list[int], list[bool]]


def new_model(vocabulary: int, end: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
        intermediate_size=768, tie_word_embeddings=True, max_position_embeddings=2048, rms_norm_eps=1e-6,
        bos_token_id=None, eos_token_id=end, pad_token_id=0, initializer_range=0.06,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    nn.init.normal_(model.model.embed_tokens.weight, 0.0, EMBEDDING_SPREAD)
    return model


# --- Examples -------------------------------------------------------------------------------------------------------


def examples(tokenizer: Tokenizer, make: Callable[[], Conversation], seed: int) -> Iterator[Example]:
    random = Random(seed)
    while True:
        ids: list[int] = []
        trained: list[bool] = []
        for text, is_trained in pieces(make(), random):
            found = tokenizer.encode(text).ids
            ids += found
            trained += [is_trained] * len(found)
        if len(ids) <= MAX_TOKENS:
            yield ids, trained


def comparisons(tokenizer: Tokenizer, maker: Maker) -> Iterator[Example]:
    """As many in each as there is room for."""
    while True:
        ids: list[int] = []
        trained: list[bool] = []
        while len(ids) < COMPARING_TOKENS - WIDTH_STEP:
            for text, is_trained in zip(maker.comparison(), (False, True), strict=True):
                found = tokenizer.encode(text).ids
                ids += found
                trained += [is_trained] * len(found)
        yield ids[:COMPARING_TOKENS], trained[:COMPARING_TOKENS]


def batches(examples: Iterator[Example], seed: int, tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, targets): examples of like length together, some `tokens` in all."""
    random = Random(seed)
    while True:
        pool = sorted((next(examples) for _ in range(POOL)), key=lambda example: len(example[0]))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(example[0]) > tokens:
                groups.append([])
            groups[-1].append(example)
        random.shuffle(groups)
        yield from map(padded, groups)


def padded(group: list[Example]) -> tuple[Tensor, Tensor]:
    """In few different shapes: the library keeps compiled code and memory for each."""
    width = -(-max(len(ids) for ids, _ in group) // WIDTH_STEP) * WIDTH_STEP
    rows = -(-len(group) // ROW_STEP) * ROW_STEP
    ids = torch.zeros(rows, width, dtype=torch.long)
    targets = torch.full((rows, width), IGNORED)
    for row, (tokens, trained) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        wanted = torch.tensor([t if is_trained else IGNORED for t, is_trained in zip(tokens, trained, strict=True)])
        targets[row, : len(tokens) - 1] = wanted[1:]
    return ids, targets


# --- Training -------------------------------------------------------------------------------------------------------


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, targets: Tensor) -> Tensor:
    """Causal attention needs no mask for padding that stands behind. Logits are made where they are asked for alone."""
    wanted = (targets != IGNORED).flatten().nonzero().squeeze(1)
    some = nn.functional.pad(wanted, (0, -len(wanted) % SCORED_STEP))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[some])
    scored = targets.flatten()[some]
    scored[len(wanted) :] = IGNORED
    return nn.functional.cross_entropy(logits.float(), scored)


def rate(step: int, steps: int) -> float:
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimizer_of(model: Qwen3ForCausalLM) -> torch.optim.AdamW:
    embedding = model.model.embed_tokens.weight
    rest = [p for p in model.parameters() if p is not embedding]
    groups = [
        {"params": [embedding], "weight_decay": 0.0, "factor": EMBEDDING_RATE},
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": 0.05, "factor": 1.0},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0, "factor": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))


class Course(Struct, frozen=True):
    """`steps` are those of the whole schedule, of which `since` to `until` are made now."""

    steps: int = STEPS
    since: int = 0
    until: int = STEPS
    seed: int = SEED
    batch_tokens: int = BATCH_TOKENS


def train(out: Path, course: Course) -> None:
    torch.manual_seed(course.seed + course.since)
    if course.since:
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        model = Qwen3ForCausalLM.from_pretrained(out, dtype=torch.float32)
        optimizer = optimizer_of(model)
    else:
        tokenizer = own_tokenizer.train(course.seed)
        template = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")
        own_tokenizer.save(tokenizer, out, template)
        model = new_model(own_tokenizer.VOCABULARY, tokenizer.token_to_id("<|im_end|>"))
        optimizer = optimizer_of(model)
        for level, (tokens, most) in enumerate(LESSONS):
            maker = Maker(course.seed + 10 + level, invented=0.0 if level == 0 else 0.3)
            lessons = examples(tokenizer, partial(maker.lesson, level), course.seed)
            teach(f"level {level}", most, model, optimizer, batches(lessons, course.seed, tokens))
    compared = Maker(course.seed + 1 + course.since)
    comparing = batches(comparisons(tokenizer, compared), course.seed, course.batch_tokens)
    if not course.since:
        teach("comparisons", COMPARING, model, optimizer, comparing)
    talked = Maker(course.seed + 2 + course.since)
    talking = batches(examples(tokenizer, talked.conversation, course.seed), course.seed, course.batch_tokens)
    began, seen, lost = time.monotonic(), 0, 0.0
    for step in range(course.since, course.until):
        ids, targets = next(comparing if step % COMPARING_AGAIN == 0 else talking)
        # A new optimizer knows nothing of the gradients yet.
        begun = min(1.0, (step - course.since + 1) / WARM_UP)
        loss = advance(model, optimizer, (ids, targets), begun * rate(step, course.steps))
        seen, lost = seen + ids.numel(), lost + loss
        if step % 50 == 49:
            spent = time.monotonic() - began
            print(f"step {step + 1}  loss {lost / 50:.4f}  {seen / spent:.0f} tokens/s  {spent:.0f} s", flush=True)
            lost = 0.0
        if step % 500 == 499 or step == course.until - 1:
            model.save_pretrained(out)
            print(measure(model, tokenizer, 200).line(), flush=True)


def teach(
    name: str,
    most: int,
    model: Qwen3ForCausalLM,
    optimizer: torch.optim.Optimizer,
    lessons: Iterator[tuple[Tensor, Tensor]],
) -> None:
    """Until it is mastered. Copying is all or nothing: for some hundred steps no name is right, then nearly all are."""
    for step in range(most):
        loss = advance(model, optimizer, next(lessons), PEAK_RATE * min(1.0, (step + 1) / 50))
        if step % 20 == 19:
            right = accuracy(model, *next(lessons))
            print(f"{name}, step {step + 1}  loss {loss:.4f}  {100 * right:.1f} % of tokens right", flush=True)
            if right >= MASTERED:
                return


def accuracy(model: Qwen3ForCausalLM, ids: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        best = model(input_ids=ids).logits.argmax(-1)
    scored = targets != IGNORED
    return float((best[scored] == targets[scored]).float().mean())


def advance(
    model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], learning_rate: float
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]
    loss = loss_of(model, *batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the whole schedule")
    parser.add_argument("--since", type=int, default=0, help="go on from what OUT holds, made in so many steps")
    parser.add_argument("--until", type=int, help="end after this step of the schedule")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train(given.out, Course(given.steps, given.since, given.until or given.steps, given.seed, given.batch_tokens))


if __name__ == "__main__":
    main()
