"""GCRA, the generic cell rate algorithm (reliability.md 2.7), on integers. Pure: the time is an argument, in nanoseconds.

Time is counted in *units*, `limit` of them to the nanosecond, so that one request (or token) is exactly a minute of nanoseconds'
worth of units whatever the limit is: 7 per minute needs no fraction, and no rounding adds up. The state is one number, the
theoretical arrival time (TAT): the moment, in units, at which the bucket would be full again. How far it lies ahead is the
*level*: what was taken and has not drained yet.

What a request held is given back when it used less, but never what has drained meanwhile: that room has been there for others
to take, and given back it would be there twice. So a bucket remembers its dips, how low the level was since each taking: after a
refund the level is exactly what it would be, had the request asked for the right amount at once.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

MINUTE_NS = 60_000_000_000
MS_NS = 1_000_000
#: Dips remembered; above this, neighbours are merged to the lower one, so that a refund may come out smaller, never larger.
MAX_DIPS = 1024


class Bucket:
    """`limit` a minute, `size` at once, both positive. It begins full.

    A *mark* orders takings: it grows with each one, over all buckets that a caller takes from together. A clock that goes back
    grants nothing; waits are longer by as much as it went back.
    """

    __slots__ = ("_dip", "_marks", "_steps", "limit", "room", "size", "tat")

    def __init__(self, limit: int, size: int, now_ns: int = 0) -> None:
        self.limit = limit
        self.size = size
        #: The highest level that a taking may leave, in units.
        self.room = size * MINUTE_NS
        self.tat = now_ns * limit
        # The dips, oldest first and ever higher (an older one that was higher says nothing any more): just before the taking
        # marked `_marks[i]` the level was the sum of `_steps` up to i. The first dip is 0, `_dip` is the last.
        self._steps = [0]
        self._marks = [0]
        self._dip = 0

    def wait_ns(self, cost: int, now_ns: int) -> int:
        """How long until `cost` may pass; 0 or less when it may now. A cost above `size` never may: ask that first."""
        return -((now_ns * self.limit + self.room - self.tat - cost * MINUTE_NS) // self.limit)

    def take(self, cost: int, now_ns: int, mark: int) -> None:
        """Takes without asking, for what has been checked and for what has been used already: the level may exceed the room."""
        now = now_ns * self.limit
        level = self.tat - now
        if level <= 0:
            self.tat = now + cost * MINUTE_NS
            self._forget(mark)
            return
        self.tat += cost * MINUTE_NS
        steps, marks, dip = self._steps, self._marks, self._dip
        while dip >= level:  # ends at the first, which is 0
            dip -= steps.pop()
            marks.pop()
        steps.append(level - dip)
        marks.append(mark)
        self._dip = level
        if len(steps) == MAX_DIPS:
            self._merge()

    def give_back(self, cost: int, now_ns: int, mark: int) -> None:
        """Returns `cost` of what the taking with this mark took, as far as it has not drained."""
        level = self.tat - now_ns * self.limit
        if level <= 0:
            return
        marks = self._marks
        later = bisect_right(marks, mark)
        if not later:  # the bucket has been full since
            return
        units = cost * MINUTE_NS
        if later < len(marks):
            steps = self._steps
            # All dips since would have been lower as well; older ones that now lie higher say nothing any more.
            units = min(units, sum(steps[: later + 1]))
            self._dip -= units
            steps[later] -= units
            while later and steps[later] <= 0:
                later -= 1
                steps[later] += steps.pop(later + 1)
                del marks[later]
        self.tat -= min(level, units)

    def change(self, limit: int, size: int, now_ns: int, mark: int) -> None:
        """Other figures from now on. What was taken stays taken, and what was used beyond the old bucket stays owed. But a lower
        limit makes nobody wait longer than until a bucket of the new size has drained: the rest is forgiven, and then nothing
        comes back of what was taken before."""
        level = max(0, self.tat - now_ns * self.limit)
        most = size * MINUTE_NS + max(0, level - self.room)
        if level > most:
            level = most
            self._forget(mark)
        self.limit = limit
        self.size = size
        self.room = size * MINUTE_NS
        self.tat = now_ns * limit + level

    def _forget(self, mark: int) -> None:
        """Nothing comes back of takings before this mark."""
        self._marks[0] = mark
        if self._dip:
            del self._steps[1:], self._marks[1:]
            self._dip = 0

    def _merge(self) -> None:
        dips = list(accumulate(self._steps))[0::2]
        self._marks = self._marks[1::2]
        self._steps = [0, *(higher - lower for lower, higher in pairwise(dips))]
        self._dip = dips[-1]

    def remaining(self, now_ns: int) -> int:
        """How much could be taken now."""
        return max(0, self.room - max(0, self.tat - now_ns * self.limit)) // MINUTE_NS

    def left(self, now_ns: int) -> tuple[int, int]:
        """How much could be taken now, and in how many milliseconds, rounded up, the bucket is full if nothing is taken."""
        level = self.tat - now_ns * self.limit
        if level <= 0:
            return self.size, 0
        return (self.room - level) // MINUTE_NS if level < self.room else 0, -(-level // (self.limit * MS_NS))
