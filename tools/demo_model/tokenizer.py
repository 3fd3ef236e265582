"""The demo model's byte-level BPE, trained on its own conversations.

Words stand apart from the blanks and quotes before them (Qwen's pattern joins them), so that a city is the same tokens in a
sentence and in JSON: copying is easier then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.demo_model.conversations import Maker
from tools.demo_model.render import pieces
from tools.demo_model.words import CITIES

VOCABULARY = 4096
CONVERSATIONS = 20_000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
#: Tokens of their own that a decoder shows, as in Qwen3.
MARKS = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<tools>",
    "</tools>",
)
WORDS = r" ?[a-z]+|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def train(seed: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    # Behind the training: tokens that are added before it keep ids that the training gives to others.
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKS])
    if tokenizer.get_vocab_size() != VOCABULARY or len({*tokenizer.get_vocab().values()}) != VOCABULARY:
        raise ValueError(f"The vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY} with an id each.")
    return tokenizer


def _texts(seed: int) -> Iterator[str]:
    maker, random = Maker(seed), Random(seed)
    for _ in range(CONVERSATIONS):
        text = "".join(text for text, _ in pieces(maker.conversation(), random))
        for mark in (*MARKS, *SPECIAL):
            text = text.replace(mark, "\n")
        yield text
    for pair in CITIES:
        yield from pair * 30


def save(tokenizer: Tokenizer, folder: Path, template: str) -> None:
    """The files that a Hugging Face folder has, with the chat template beside them."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
