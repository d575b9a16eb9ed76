"""Read a pickle as data: a machine that builds plain containers and calls nothing.

A pickle is a program. Python's machine allocates whatever a few bytes request: a text of 2**40
bytes, a memo of 2**31 entries, the hash of a tuple that contains itself twice, thirty levels deep.
This one reads with `pickletools`, supports only the instructions that weights need, and replaces
the names in a pickle with `Stand`s. Its limits are below; memory for stand-ins comes from a `Room`.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

MOST_OPERATIONS = 4_000_000
"""Maximum instructions of one pickle, each of which adds at most one object: a large checkpoint
with the state of its optimizer has about 100,000."""
LONGEST_KEY = 4096
"""Maximum characters of a key."""
DEEPEST = 64
"""Maximum depth of nested containers."""

PLAIN = bool | int | float | complex | str | bytes | bytearray | None


class RefusedName(pickle.UnpicklingError):
    """A pickle uses a `name` that weights do not need."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name}")
        self.name = name


class Room:
    """The memory that reading a file may still use: `size` in total, whatever the file says.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> None:
        """Use some of it; raises `pickle.UnpicklingError` if there is not enough."""
        if size > self.left:
            raise pickle.UnpicklingError("it needs more memory than the file has numbers for")
        self.left -= size


class Stream(Protocol):
    """The source of a pickle: bytes in memory or a mapped file.

    A read of any size returns only the available bytes and takes no more memory.
    """

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`."""

    def readline(self) -> bytes:
        """Return the rest of a line."""

    def tell(self) -> int:
        """Return the position of the next byte."""


class Stand:
    """A replacement for a callable that a pickle names."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Built:
    """An object that a pickle makes in two steps: a call, then its state."""

    def build(self, state: Any) -> None:
        """Set the state."""
        raise NotImplementedError


class Machine:
    """Runs one pickle.

    Args:
        find: returns the replacement of a dotted name; raises `RefusedName`.
        persistent: returns the replacement of an object stored outside the pickle.
    """

    def __init__(
        self, find: Callable[[str], Any], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self.find, self.persistent = find, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self, stream: Stream) -> Any:
        """Return the object of the pickle that starts at the stream's position.

        Raises:
            pickle.UnpicklingError: for an instruction that weights do not need, or beyond a limit.
            ValueError, LookupError, TypeError, EOFError: if the pickle is damaged.
        """
        for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if number > MOST_OPERATIONS:
                raise pickle.UnpicklingError(f"more than {MOST_OPERATIONS} instructions")
            if operation.name == "STOP":
                return self.stack.pop()
            if operation.name in PUSHES:
                self.stack.append(PUSHES[operation.name](argument))
            else:
                step = STEPS.get(operation.name)
                if step is None:
                    raise pickle.UnpicklingError(f"the instruction {operation.name}")
                step(self, argument)
        raise EOFError("pickle data was truncated")

    def marked(self) -> list[Any]:
        """Pop everything above the last mark off the stack."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    # instructions by name, in lower case ------------------------------------------------------

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def _pop_mark(self, _: Any) -> None:
        self.marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _get(self, place: int) -> None:
        self.stack.append(self.memo[int(place)])

    def _put(self, place: int) -> None:
        self.memo[int(place)] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _list(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(items)

    def _tuple(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(tuple(items))

    def _dict(self, _: Any) -> None:
        items = self.marked()
        self.stack.append({})
        self._set(items)

    def _some(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self.marked())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("items for something other than a list")
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self.marked())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise pickle.UnpicklingError("entries for something other than a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self.stack.append(self.find(f"{module}.{name}"))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise pickle.UnpicklingError("a name that is not text")
        self.stack.append(self.find(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, stand = self.stack.pop(), self.stack.pop()
        if type(stand) is not Stand or type(arguments) is not tuple:
            raise pickle.UnpicklingError("a call of something that is not callable")
        self.stack.append(stand.call(*arguments))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Built):
            target.build(state)
        elif (
            type(target) is not dict
        ):  # for a dict the state is attributes, such as those of torch's state dicts
            raise pickle.UnpicklingError("state for a function")

    def _binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise pickle.UnpicklingError("an object outside of it")
        self.stack.append(self.persistent(self.stack.pop()))


def checked_key(key: Any) -> Any:
    """Return a key that is fast to hash and compare: a short text or bytes, or a number."""
    if isinstance(key, str | bytes) and len(key) <= LONGEST_KEY:
        return key
    # larger integers can be chosen so that all have the same hash
    if key is None or (isinstance(key, int) and abs(key) < 2**60):
        return key
    raise pickle.UnpicklingError(f"a {type(key).__name__} as a key, or a very long one")


def _nothing(_: Any) -> None:
    return None


VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
PUSHES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(VALUES, lambda given: given),
    "NONE": _nothing,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
}
"""Instructions that push a value: their argument, or an empty container."""

STEPS: Mapping[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_mark,
    "DUP": Machine._dup,
    "GET": Machine._get,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "PUT": Machine._put,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._memoize,
    "LIST": Machine._list,
    "TUPLE": Machine._tuple,
    "DICT": Machine._dict,
    "TUPLE1": lambda machine, _: machine._some(1),
    "TUPLE2": lambda machine, _: machine._some(2),
    "TUPLE3": lambda machine, _: machine._some(3),
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._binpersid,
}
"""All other instructions (sets, extensions, external buffers, old-style instances) are rejected."""


def plain(value: Any, tensor_of: Callable[[Any], Any]) -> Any:
    """Copy containers so that every leaf is plain or a tensor.

    Args:
        value: content of a pickle.
        tensor_of: converts a leaf that is not plain to a tensor; raises `pickle.UnpicklingError`
            for anything else.

    Raises:
        pickle.UnpicklingError: for other leaves, a container in itself, or containers too deep.
    """
    copies: dict[int, Any] = {}  # an object that a pickle shares is shared here too

    def walk(item: Any, depth: int) -> Any:
        if isinstance(item, PLAIN):
            return item
        if type(item) not in (dict, list, tuple):
            return tensor_of(item)
        if depth > DEEPEST:
            raise pickle.UnpicklingError(f"containers more than {DEEPEST} deep, or in themselves")
        if id(item) not in copies:
            if isinstance(item, dict):
                copies[id(item)] = {key: walk(each, depth + 1) for key, each in item.items()}
            else:
                copies[id(item)] = type(item)(walk(each, depth + 1) for each in item)
        return copies[id(item)]

    return walk(value, 0)
