"""A memory of bounded size for what is expensive to compute again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from threading import Lock
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(MutableMapping[K, V]):
    """A dictionary that forgets what was used longest ago, so that the sizes of its values stay within `most`.

    A value of more than a quarter of that is not kept at all. Keys are compared by value; safe between threads.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self.most, self.size = most, size
        self.used = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

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
