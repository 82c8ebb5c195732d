"""What is remembered is remembered by everything that it may have been made of."""

from __future__ import annotations

from functools import cached_property
from typing import Any


class Key(tuple[Any, ...]):  # noqa: SLOT001 - its dictionary has the hash
    """What something is remembered by, hashed once however often it is looked up.

    >>> {Key(("a", 1)): "found"}["a", 1]
    'found'
    """

    def __hash__(self) -> int:
        """Return the hash of the tuple."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()


class Only:
    """Some fields of an object, and no others: what is made of them depends on `key` alone.

    Raises AttributeError for any other field.

    >>> read = Only(slice(1, 2, 3), "start", "stop")
    >>> read.start, read.key
    (1, (('start', 1), ('stop', 2)))
    >>> read.indices
    Traceback (most recent call last):
    AttributeError: 'indices' is not among what is remembered by: start, stop
    """

    def __init__(self, of: object, *names: str) -> None:
        self.__dict__.update((name, getattr(of, name)) for name in names)

    def __getattr__(self, name: str) -> Any:
        """Raise for a field that is not among them."""
        raise AttributeError(f"{name!r} is not among what is remembered by: {', '.join(self.__dict__)}")

    @property
    def key(self) -> tuple[Any, ...]:
        """The fields by name, to remember by."""
        return tuple(self.__dict__.items())
