"""What a client refuses before anything is sent: addresses and calls that could not be carried out.

    addresses ──checked_addresses──▶ the same, as a tuple      call ──check_call──▶ the machine
         └── InvalidArgument (`client_arguments`)                └── InvalidArgument, InvalidInput

Types and ranges are told at once, where the caller made the mistake. So are lengths beyond which
every node refuses: the codes are the node's own, and no connection is spent on them.

What only a node can tell (reserved keys, keys per call, clocks) is left to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workbench.client.values import Ask, Read, Scan, Write
from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import check_key
from workbench.model.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PORT_MAX: Final = 65_535


def is_address(text: str) -> bool:
    """Tell whether `text` is HOST:PORT, with a port that can be called."""
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    return bool(host) and "/" not in host and 0 < number <= PORT_MAX


def checked_addresses(addresses: Iterable[object]) -> tuple[str, ...]:
    """Return the addresses of nodes, each HOST:PORT; InvalidArgument (`client_arguments`)."""
    hint = "give a list of HOST:PORT, as in ['127.0.0.1:40101']"
    if isinstance(addresses, str | bytes):
        raise InvalidArgument(
            f"the addresses are {addresses!r}, one text and no list of them",
            code="client_arguments",
            hint=hint,
        )
    found: list[str] = []
    for each in addresses:
        if not isinstance(each, str) or not is_address(each):
            raise InvalidArgument(
                f"the address {each!r} is no HOST:PORT", code="client_arguments", hint=hint
            )
        found.append(each)
    return tuple(found)


def check_call(call: Write | Read | Scan | Ask, timeout_ms: int) -> None:
    """Raise for a call that could not be carried out.

    Raises:
        InvalidArgument: `call_invalid`: it asks for nothing, or has values of other types.
        InvalidInput: `key_too_long`, `value_too_long` or `batch_too_large`.
    """
    problem = "" if timeout_ms > 0 else f"a timeout of {timeout_ms} ms"
    if isinstance(call, Write):
        problem = problem or _unwritable(call)
    elif isinstance(call, Scan):
        limit = call.limit
        problem = problem or ("" if limit is None or limit > 0 else f"a limit of {limit}")
        bounds = [call.start, *(() if call.end is None else (call.end,))]
        problem = problem or _not_bytes("bound", bounds) or _no_timestamp(call.read_ts)
    elif isinstance(call, Read):
        problem = problem or ("" if call.keys else "a read without a key")
        problem = problem or _not_bytes("key", call.keys) or _no_timestamp(call.read_ts)
    if problem:
        raise InvalidArgument(problem, code="call_invalid", hint="mend the call")
    if isinstance(call, Write):
        _check_lengths(call)
    elif isinstance(call, Read):
        for key in call.keys:
            check_key(key)


def check_put(value: object) -> None:
    """Raise InvalidArgument (`call_invalid`) for a value that cannot be put."""
    problem = _not_bytes("value", [value])
    if problem:
        raise InvalidArgument(
            problem, code="call_invalid", hint="put bytes; to remove a key, delete it"
        )


def _check_lengths(call: Write) -> None:
    size = 0
    for precondition in call.preconditions:
        check_key(precondition.key)
    for mutation in call.mutations:
        check_key(mutation.key)
        length = len(mutation.value or b"")
        if length > VALUE_BYTES_MAX:
            raise InvalidInput(
                f"value has {length} bytes, the limit is {VALUE_BYTES_MAX}",
                code="value_too_long",
                hint="store it in parts, under several keys",
            )
        size += len(mutation.key) + length
    if size > BATCH_BYTES_MAX:
        raise InvalidInput(
            f"the batch has {size} bytes of keys and values, the limit is {BATCH_BYTES_MAX}",
            code="batch_too_large",
            hint="send it as several batches",
        )


def _unwritable(call: Write) -> str:
    if not call.mutations:
        return "a write without a mutation"
    keys = [each.key for each in call.mutations] + [each.key for each in call.preconditions]
    values = [each.value for each in call.mutations if each.value is not None]
    expiries = [each.expire_at_ms for each in call.mutations]
    late = next((each for each in expiries if not 0 <= each < 2**63), None)
    return (
        _not_bytes("key", keys)
        or _not_bytes("value", values)
        or ("" if late is None else f"an expiry at {late} ms")
        or next(
            filter(None, (_no_timestamp(each.commit_ts or 0) for each in call.preconditions)), ""
        )
    )


def _not_bytes(what: str, given: Sequence[object]) -> str:
    """Say what is wrong with the first of `given` that is not bytes; "" for nothing."""
    if all(type(each) is bytes for each in given):
        return ""
    others = [type(each).__name__ for each in given if not isinstance(each, bytes)]
    return f"a {what} of type {others[0]}, not bytes" if others else ""


def _no_timestamp(read_ts: int) -> str:
    return "" if 0 <= read_ts < 2**64 else f"the timestamp {read_ts}, which is no 64-bit number"
