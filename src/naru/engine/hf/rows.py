"""The keys and values of several sequences of unlike length, one row each, as Transformers' attention reads them.

Rows end together: what is shorter is padded on the left, because masks of sliding windows count from the right. A step writes
in place, where the library's own DynamicCache copies everything for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

#: Columns are added so many at a time, and a quarter of what there is.
_STRIDE = 64


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: [rows, heads, columns, head size], of which `length` columns are written.

    All columns are kept for sliding windows too: the mask hides what is out of sight.
    """

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        self.keys = key_states.new_empty((*key_states.shape[:2], 0, key_states.shape[3]))
        self.values = value_states.new_empty((*value_states.shape[:2], 0, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.length, self.length + key_states.shape[2]
        if end > self.keys.shape[2]:
            columns = end + max(_STRIDE, end // 4)
            self.keys = _placed([(self.keys[:, :, :start], 0)], columns)
            self.values = _placed([(self.values[:, :, :start], 0)], columns)
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_cache_shape(self) -> int:
        return -1

    def join(self, other: _Layer) -> None:
        length = max(self.length, other.length)
        columns = length + _STRIDE
        parts = (self, other)
        self.keys, self.values = (
            _placed([(part.keys[:, :, : part.length], length - part.length) for part in parts], columns),
            _placed([(part.values[:, :, : part.length], length - part.length) for part in parts], columns),
        )
        self.length = length

    def keep(self, rows: Any, skipped: int) -> None:
        self.keys = self.keys[rows, :, skipped:]
        self.values = self.values[rows, :, skipped:]
        self.length -= skipped


class Rows(Cache):  # type: ignore[misc]
    """A Transformers cache that rows join and leave. `length` is the longest row's, in tokens."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    @property
    def length(self) -> int:
        return self.layers[0].length  # type: ignore[no-any-return]

    def join(self, other: Rows) -> None:
        """Adds the rows of `other` below. If it raises (no memory), neither is usable any more."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)

    def keep(self, rows: Sequence[int], skipped: int) -> None:
        """Only these rows, without their first `skipped` columns, which are padding in all of them."""
        for layer in self.layers:
            layer.keep(list(rows), skipped)


def layers_of(config: Any) -> int | None:
    """How many layers keep keys and values. None if a layer keeps something else (linear attention, state spaces): such a
    model's sequences run one by one, on the library's own cache."""
    layers = DynamicCache(config=config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return len(layers) if plain and layers else None


def _placed(parts: Sequence[tuple[Any, int]], columns: int) -> Any:
    """The parts' rows in one tensor of so many columns, each part from its column on. Padding is zero: a masked column counts
    nothing only if it holds a number."""
    first = parts[0][0]
    rows = sum(part.shape[0] for part, _ in parts)
    whole = torch.zeros((rows, first.shape[1], columns, first.shape[3]), dtype=first.dtype, device=first.device)
    row = 0
    for part, column in parts:
        whole[row : row + part.shape[0], :, column : column + part.shape[2]] = part
        row += part.shape[0]
    return whole
