"""GCRA, the generic cell rate algorithm (reliability.md 2.7), on integers. Pure: the time is an argument, in nanoseconds.

Time is counted in *units*, `limit` of them to the nanosecond, so that one request (or token) is exactly a minute of nanoseconds'
worth of units whatever the limit is: 7 per minute needs no fraction, and no rounding adds up. The state is one number, the
theoretical arrival time (TAT): the moment, in units, at which the bucket would be full again. How far it lies ahead is the
*level*: what was taken and has not drained yet.

What a request held is given back when it took less, but never what has drained meanwhile: that room has been there for others
to use, and given back it would be there twice. So a bucket remembers its dips, the lowest level since each taking: a refund is
exactly what the level would be lower by, had the request asked for the right amount at once.
"""

from __future__ import annotations

from bisect import bisect_right

MINUTE_NS = 60_000_000_000
MS_NS = 1_000_000
#: Dips remembered; above this, neighbours are merged to the lower one, so that a refund may come out smaller, never larger.
MAX_DIPS = 1024


class Bucket:
    """`limit` a minute, `size` at once, both positive. It begins full.

    A *mark* orders takings: it grows with each one, over all buckets that a caller takes from together. A clock that goes back
    grants nothing; waits are longer by as much as it went back.
    """

    __slots__ = ("_dips", "_marks", "limit", "room", "size", "tat")

    def __init__(self, limit: int, size: int, now_ns: int = 0) -> None:
        self.limit = limit
        self.size = size
        #: The highest level that a taking may leave, in units.
        self.room = size * MINUTE_NS
        self.tat = now_ns * limit
        # Rising levels; `_dips[i]` is how low the level was just before the taking marked `_marks[i]`. The first stays 0.
        self._dips = [0]
        self._marks = [0]

    def wait_ns(self, cost: int, now_ns: int) -> int:
        """How long until `cost` may pass; 0 or less when it may now. A cost above `size` never may: ask that first."""
        return -((now_ns * self.limit + self.room - self.tat - cost * MINUTE_NS) // self.limit)

    def take(self, cost: int, now_ns: int, mark: int) -> None:
        """Takes without asking, for what has been checked and for what has been used already: the level may exceed the room."""
        now = now_ns * self.limit
        level = self.tat - now
        dips = self._dips
        if level <= 0:
            self.tat = now + cost * MINUTE_NS
            self._marks[0] = mark
            if len(dips) > 1:
                del dips[1:], self._marks[1:]
            return
        self.tat += cost * MINUTE_NS
        while dips[-1] >= level:  # ends at the first, which is 0
            dips.pop()
            self._marks.pop()
        dips.append(level)
        self._marks.append(mark)
        if len(dips) == MAX_DIPS:
            self._dips = dips[0::2]
            self._marks = self._marks[1::2]

    def give_back(self, cost: int, now_ns: int, mark: int) -> None:
        """Returns `cost` of what the taking with this mark took, as far as it has not drained."""
        level = self.tat - now_ns * self.limit
        if level <= 0:
            return
        later = bisect_right(self._marks, mark)
        units = cost * MINUTE_NS
        if later < len(self._dips) and self._dips[later] < units:
            units = self._dips[later]
        self.tat -= min(level, units)

    def change(self, limit: int, size: int, now_ns: int) -> None:
        """Other figures from now on. What was taken stays taken, up to a whole bucket of the new size: a lower limit makes nobody
        wait for more than that. What was used beyond the old bucket stays owed."""
        level = max(0, self.tat - now_ns * self.limit)
        owed = max(0, level - self.room)
        self.limit = limit
        self.size = size
        self.room = size * MINUTE_NS
        self.tat = now_ns * limit + min(level, self.room + owed)

    def remaining(self, now_ns: int) -> int:
        """How much could be taken now."""
        return max(0, self.room - max(0, self.tat - now_ns * self.limit)) // MINUTE_NS

    def left(self, now_ns: int) -> tuple[int, int]:
        """How much could be taken now, and in how many milliseconds, rounded up, the bucket is full if nothing is taken."""
        level = self.tat - now_ns * self.limit
        if level <= 0:
            return self.size, 0
        return (self.room - level) // MINUTE_NS if level < self.room else 0, -(-level // (self.limit * MS_NS))
