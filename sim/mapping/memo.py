"""A memory of bounded size for what is expensive to compute again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from functools import wraps
from threading import Lock
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class Hashed(Generic[K]):
    """A value that knows its hash: for large parts of keys, which would be hashed again at every look-up."""

    __slots__ = ("hash", "value")

    def __init__(self, value: K) -> None:
        self.value, self.hash = value, hash(value)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Hashed) and self.hash == other.hash and bool(self.value == other.value)
        )


def by_identity(most: int) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Remember what a function makes of up to `most` immutable objects that cannot be hashed, or not cheaply.

    An entry keeps its object alive, and with it its id.
    """

    def remembering(function: Callable[[K], V]) -> Callable[[K], V]:
        known: Recent[int, tuple[K, V]] = Recent(most)

        @wraps(function)
        def remembered(value: K) -> V:
            found = known.get(id(value))
            if found is None:
                found = known[id(value)] = value, function(value)
            return found[1]

        return remembered

    return remembering


class Recent(MutableMapping[K, V]):
    """A dictionary that forgets what was used longest ago, so that the sizes of its values stay within `most`.

    A value of more than a quarter of that is not kept at all. Keys are compared by value; safe between threads.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self.most, self.size = most, size
        self.used = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    @overload
    def get(self, key: K, /) -> V | None: ...

    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...

    def get(self, key: K, /, default: object = None) -> object:
        """As of any mapping, without an exception for what is not there."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return default
            self._entries.move_to_end(key)
            return found[0]

    def __getitem__(self, key: K) -> V:
        with self._lock:
            value, _ = self._entries[key]
            self._entries.move_to_end(key)
            return value

    def __setitem__(self, key: K, value: V) -> None:
        size = self.size(value)
        with self._lock:
            self._forget(key)
            if size * 4 > self.most:
                return
            self._entries[key] = value, size
            self.used += size
            while self.used > self.most:
                self._forget(next(iter(self._entries)))

    def __delitem__(self, key: K) -> None:
        with self._lock:
            if key not in self._entries:
                raise KeyError(key)
            self._forget(key)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def _forget(self, key: K) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self.used -= size
