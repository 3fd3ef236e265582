"""Grammars as openvino-genai takes them, tried out before the model that serves sees them.

A grammar that cannot be compiled raises inside `step`, and after that the whole pipeline is of no use (openvino-genai 2026.4):
one caller's schema would end everybody's answer. The library has no call that only compiles, so it is made to write one token
of the shipped model under the grammar first. What is an error does not depend on the vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from naru.engine.files import demo_folder
from naru.engine.port import Grammar

#: Grammars that were tried and are good.
KEPT = 1024


class Trial:
    """For one thread. The pipeline is opened at the first grammar, and anew after a bad one."""

    def __init__(self, genai: Any) -> None:
        self._genai = genai
        self._pipe: Any = None
        self._good: OrderedDict[Grammar, None] = OrderedDict()
        self._number = 0

    def check(self, grammar: Grammar) -> None:
        """Raises RuntimeError, the library's own, for a grammar that cannot be compiled."""
        if grammar in self._good:
            self._good.move_to_end(grammar)
            return
        pipe, self._pipe = self._pipe or self._open(), None
        config = self._genai.GenerationConfig()
        config.max_new_tokens = 1
        config.structured_output_config = structured(self._genai, grammar)
        self._number += 1
        handle = pipe.add_request(self._number, "{", config)
        while pipe.has_non_finished_requests():
            pipe.step()
        handle.read_all()
        self._pipe = pipe
        self._good[grammar] = None
        if len(self._good) > KEPT:
            self._good.popitem(last=False)

    def _open(self) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.num_kv_blocks = 4
        scheduler.max_num_seqs = 1
        return self._genai.ContinuousBatchingPipeline(str(demo_folder()), scheduler, "CPU", {})


def structured(genai: Any, grammar: Grammar) -> Any:
    """A grammar as the library takes it."""
    config = genai.StructuredOutputConfig
    match grammar.kind:
        case "json_schema":
            return config(json_schema=grammar.text)
        case "regex":
            return config(regex=grammar.text)
        case "ebnf":
            return config(grammar=grammar.text)
        case "structural_tag":
            tag = _tag(config, msgspec.json.decode(grammar.text)["format"])
            return config(structural_tags_config=tag)


def _tag(config: Any, tag: dict[str, Any]) -> Any:
    """xgrammar's JSON to the library's classes for it."""
    kinds: dict[str, Callable[[], Any]] = {
        "any_text": lambda: config.AnyText(),
        "json_schema": lambda: config.JSONSchema(msgspec.json.encode(tag["json_schema"]).decode()),
        "qwen_xml_parameter": lambda: config.QwenXMLParametersFormat(msgspec.json.encode(tag["json_schema"]).decode()),
        "tag": lambda: config.Tag(tag["begin"], _tag(config, tag["content"]), tag["end"]),
        "tags_with_separator": lambda: config.TagsWithSeparator(
            [_tag(config, each) for each in tag["tags"]], tag["separator"], tag["at_least_one"], tag["stop_after_first"]
        ),
    }
    return kinds[tag["type"]]()
