"""Errors on the wire: our error tree as gRPC statuses, and back.

    WorkbenchError ──status_of, trailers_of──▶ status, text, metadata ──error_of──▶ WorkbenchError

| error                           | status                                              |
|---------------------------------|-----------------------------------------------------|
| InvalidInput, InvalidArgument   | INVALID_ARGUMENT                                    |
| NotFound                        | NOT_FOUND                                           |
| Conflict                        | ABORTED                                             |
| AlreadyExists                   | ALREADY_EXISTS                                      |
| Unavailable, OutcomeUnknown     | UNAVAILABLE                                         |
| codes in PRECONDITION_CODES     | FAILED_PRECONDITION, whatever their class           |
| codes in EXHAUSTED_CODES        | RESOURCE_EXHAUSTED                                  |
| Corruption, Storage, Internal   | INTERNAL                                            |

Our answers carry the code and the kind as trailing metadata, so that the way back is exact. A
status without them comes from gRPC itself or from another program: then what it means depends
on whether the call could write. A write whose fate is not known is OutcomeUnknown, never a
failure and never a success.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from workbench.errors import (
    AlreadyExists,
    Conflict,
    Corruption,
    Internal,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.node.wire import CODE_KEY, KIND_KEY, LEADER_KEY, metadata_value

if TYPE_CHECKING:
    from collections.abc import Mapping

PRECONDITION_CODES: Final = frozenset(
    {
        "route_not_active",
        "route_busy",
        "catalog_leader_unknown",
        "catalog_absent",
        "group_restoring",
        "group_not_empty",
        "restore_other",
        "restore_not_running",
        "restore_ended",
        "restore_spans_differ",
        "import_ahead_of_clock",
    }
)
EXHAUSTED_CODES: Final = frozenset({"queue_full"})
MESSAGE_CHARS_MAX: Final = 1024
# gRPC says so only where no byte of the call has left this machine.
_NO_CONNECTION: Final = "failed to connect to all addresses"
_OTHER_PROTOCOL: Final = "Failed parsing HTTP/2"
_NO_SUCH_HOST: Final = ("errors resolving ", "DNS resolution failed")

_STATUS_OF_KIND: Final[Mapping[str, grpc.StatusCode]] = {
    InvalidInput.kind: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound.kind: grpc.StatusCode.NOT_FOUND,
    Conflict.kind: grpc.StatusCode.ABORTED,
    AlreadyExists.kind: grpc.StatusCode.ALREADY_EXISTS,
    Unavailable.kind: grpc.StatusCode.UNAVAILABLE,
    OutcomeUnknown.kind: grpc.StatusCode.UNAVAILABLE,
    Corruption.kind: grpc.StatusCode.INTERNAL,
    Storage.kind: grpc.StatusCode.INTERNAL,
    Internal.kind: grpc.StatusCode.INTERNAL,
}
_CLASS_OF_KIND: Final[Mapping[str, type[WorkbenchError]]] = {
    each.kind: each
    for each in (
        InvalidInput,
        NotFound,
        Conflict,
        AlreadyExists,
        Unavailable,
        OutcomeUnknown,
        Corruption,
        Storage,
        Internal,
    )
}
# Where the status stands alone: what every caller may conclude from it.
_CLASS_OF_STATUS: Final[Mapping[grpc.StatusCode, type[WorkbenchError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNIMPLEMENTED: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: InvalidInput,
    grpc.StatusCode.PERMISSION_DENIED: InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED: InvalidInput,
}
_CODE_PATTERN: Final = re.compile(r"[a-z0-9_]{1,64}")


class Redirected(Unavailable):
    """Another node leads the group, and the call has to be made there."""

    def __init__(self, node: int, group: int, leader_address: str) -> None:
        super().__init__(
            f"node {node} does not lead group {group}, the node at {leader_address} does",
            code="not_leader",
            hint="make the call there",
        )
        self.leader_address = leader_address


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ended that brought no answer: status, text and trailing metadata."""

    status: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


def status_of(error: WorkbenchError) -> grpc.StatusCode:
    """Return the gRPC status that stands for an error of ours."""
    if error.code in PRECONDITION_CODES:
        return grpc.StatusCode.FAILED_PRECONDITION
    if error.code in EXHAUSTED_CODES:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return _STATUS_OF_KIND[error.kind]


def trailers_of(error: WorkbenchError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that goes with an error: its code and its kind.

    Of a call that has to be made elsewhere also where.
    """
    leader = ((LEADER_KEY, error.leader_address),) if isinstance(error, Redirected) else ()
    return ((CODE_KEY, error.code), (KIND_KEY, error.kind), *leader)


def message_of(error: WorkbenchError) -> str:
    """Return message and hint on one line, cut so that it fits into a header."""
    text = " ".join(str(error).split())
    return text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…"


def failure_of(error: grpc.RpcError) -> Failure:
    """Return how a call ended, from the exception that gRPC raised for it."""
    status = error.code()
    assert isinstance(status, grpc.StatusCode)
    trailers = tuple((str(key), value) for key, value in error.trailing_metadata() or ())
    return Failure(status, error.details() or "", trailers)


def error_of(
    failure: Failure, *, peer: str, writes: bool, codes: Mapping[grpc.StatusCode, str] | None = None
) -> WorkbenchError:
    """Return the error that a failed call means.

    Args:
        failure: How it ended.
        peer: Whom it called, for the text.
        writes: Whether it could change anything.
        codes: The method's own code per status, for a peer that sends none.
    """
    code = metadata_value(failure.trailers, CODE_KEY)
    kind = metadata_value(failure.trailers, KIND_KEY) or ""
    if code is not None and _CODE_PATTERN.fullmatch(code):
        status_class = _CLASS_OF_STATUS.get(failure.status, Internal)
        if failure.status in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}:
            status_class = Unavailable
        return _CLASS_OF_KIND.get(kind, status_class)(failure.details, code=code)
    return _foreign(failure, peer, writes=writes, codes=codes or {})


def never_sent(failure: Failure) -> bool:
    """Tell whether the call certainly never reached anybody."""
    words = (_NO_CONNECTION, *_NO_SUCH_HOST)
    return failure.status is grpc.StatusCode.UNAVAILABLE and failure.details.startswith(words)


def _foreign(
    failure: Failure, peer: str, *, writes: bool, codes: Mapping[grpc.StatusCode, str]
) -> WorkbenchError:
    """Return the error that a status without our code means."""
    name = failure.status.name
    text = f"{peer} ended the call with {name}: {failure.details[:MESSAGE_CHARS_MAX]}"
    if never_sent(failure):
        return _not_reached(failure, peer)
    if failure.status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidInput(text, code="message_too_large", hint="send less in one call")
    known = _CLASS_OF_STATUS.get(failure.status)
    if known is not None:
        return known(text, code=codes.get(failure.status, f"status_{name.lower()}"))
    if writes:
        return OutcomeUnknown(
            text,
            code="deadline_exceeded" if _timed_out(failure) else "connection_lost",
            hint="the write may have taken effect: look before repeating it",
        )
    if failure.status in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}:
        return Internal(text, code=f"status_{name.lower()}", hint="see the node's log")
    return Unavailable(
        text,
        code="deadline_exceeded" if _timed_out(failure) else "connection_lost",
        hint="try again; check that the node runs",
    )


def _not_reached(failure: Failure, peer: str) -> Unavailable:
    text = f"no connection to {peer}"
    hint = "check that the node runs and the address is right"
    if failure.details.startswith(_NO_SUCH_HOST):
        text += ": its host name has no address"
        hint = "check the spelling of the name, and that this machine resolves it"
    elif _OTHER_PROTOCOL in failure.details:
        text += ": what listens there does not speak gRPC"
        hint = "name the port that the node listens at, not the one of its metrics"
    return Unavailable(text, code="node_unreachable", hint=hint)


def _timed_out(failure: Failure) -> bool:
    return failure.status is grpc.StatusCode.DEADLINE_EXCEEDED
