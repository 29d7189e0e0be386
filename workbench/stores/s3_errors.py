"""What a failed S3 request means: did it happen, may it be asked again, what does one say.

    exception of s3fs ──__cause__──> answer of the server ──> Failed(kind, code, hint)
                      └──────────────> lost connection    ──┘        └──> WorkbenchError

s3fs turns answers into OSErrors by their bodies, and servers differ in these: the same 412 comes
as FileExistsError or as EINVAL. So the chain of causes is walked to the answer itself.

The kinds, by what is known about the effect of a write:

| kind | effect | S3 |
|---|---|---|
| ABSENT | none | 404 |
| TAKEN | none | 412: the key exists |
| CONTENDED | none | 409: another write of the key was under way |
| RANGE | none | 416: the object ends before |
| BUSY | none | 429; 503 that says SlowDown or ServiceUnavailable; no connection was made |
| LOST | unknown | any other 5xx; no answer in time; a connection that broke; half an answer |
| REFUSED | none | every other answer |

A 503 of a gateway, whose body names no S3 code, is LOST: the gateway may have passed the write on.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

from workbench.errors import NotFound, OutcomeUnknown, Storage, Unavailable, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(Enum):
    """What a failure tells; see the table above."""

    ABSENT = "absent"
    TAKEN = "taken"
    CONTENDED = "contended"
    RANGE = "range"
    BUSY = "busy"
    LOST = "lost"
    REFUSED = "refused"


_CREDENTIALS_HINT: Final = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE, and that "
    "they may list, read, write and delete below this prefix"
)
_REGION_HINT: Final = "set AWS_REGION to the bucket's region"
_TLS_HINT: Final = "check AWS_ENDPOINT_URL and AWS_CA_BUNDLE"
_CONFIGURATION_HINT: Final = "check the AWS_… and FSSPEC_S3_… variables and ~/.aws/config"

# code of the answer -> code and hint of the error
_REFUSALS: Final[dict[str, tuple[str, str]]] = {
    "NoSuchBucket": ("store_absent", "create the bucket, or check its name and AWS_ENDPOINT_URL"),
    "InvalidBucketName": ("store_absent", "check the bucket's name"),
    "AccessDenied": ("store_permission", _CREDENTIALS_HINT),
    "AllAccessDisabled": ("store_permission", _CREDENTIALS_HINT),
    "ExpiredToken": ("store_permission", "the session token has expired: get a new one"),
    "InvalidAccessKeyId": ("store_permission", _CREDENTIALS_HINT),
    "InvalidToken": ("store_permission", _CREDENTIALS_HINT),
    "RequestTimeTooSkewed": ("store_permission", "set this machine's clock"),
    "SignatureDoesNotMatch": ("store_permission", _CREDENTIALS_HINT),
    "AuthorizationHeaderMalformed": ("store_region_wrong", _REGION_HINT),
    "IllegalLocationConstraintException": ("store_region_wrong", _REGION_HINT),
    "PermanentRedirect": ("store_region_wrong", _REGION_HINT),
    "QuotaExceeded": ("store_full", "the bucket's quota is used up"),
    "XMinioStorageFull": ("store_full", "the server's disk is full"),
}
_REFUSAL_STATUSES: Final[dict[int, tuple[str, str]]] = {
    301: ("store_region_wrong", _REGION_HINT),
    401: ("store_permission", _CREDENTIALS_HINT),
    403: ("store_permission", _CREDENTIALS_HINT),
    501: ("store_not_conditional", "this server cannot create an object at most once"),
    507: ("store_full", "the server's disk is full"),
}
_BUSY_CODES: Final = frozenset(
    {"SlowDown", "ServiceUnavailable", "RequestTimeout", "TooManyRequests", "429"}
)
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_UNMADE: Final = (boto.ConnectTimeoutError, boto.ProxyConnectionError)
_BROKEN: Final = (
    boto.HTTPClientError,  # among it ReadTimeoutError and ConnectionClosedError
    boto.FlexibleChecksumError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    ResponseParserError,  # an answer that is not one of S3
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
)
# The first that fits is it.
_EXCEPTIONS: Final[tuple[tuple[tuple[type[BaseException], ...], Kind, str, str], ...]] = (
    (_NO_CREDENTIALS, Kind.REFUSED, "store_permission", _CREDENTIALS_HINT),
    ((boto.SSLError,), Kind.REFUSED, "store_tls", _TLS_HINT),
    (_UNMADE, Kind.BUSY, "", ""),
    (_BROKEN, Kind.LOST, "", ""),
    ((boto.BotoCoreError,), Kind.REFUSED, "store_configuration", _CONFIGURATION_HINT),
)


@dataclass(eq=False, slots=True)
class Failed(Exception):  # noqa: N818  # named for what happened, as the tree of errors
    """A request that did not succeed.

    Attributes:
        kind: What is known.
        reason: For people, without secrets.
        code: Of the WorkbenchError that it becomes, where `kind` does not say it.
        hint: What to do about it.
    """

    kind: Kind
    reason: str
    code: str = "store_failed"
    hint: str = "see what the server says, and docs/stores.md"


def failed(error: BaseException) -> Failed | None:
    """Return what `error` means, None where it is none of a store (our own bug)."""
    for cause in _causes(error):
        if isinstance(cause, boto.ClientError):
            return _of_answer(cause.response)
    for cause in _causes(error):
        found = _of_exception(cause)
        if found is not None:
            return found
    return None


def as_error(failure: Failed, what: str, *, endpoint: str, wrote: bool) -> WorkbenchError:
    """Return the error that callers get.

    Args:
        failure: What happened.
        what: As `cannot read 'k' in s3://bucket`.
        endpoint: Whom we asked.
        wrote: Whether the request was to change something.
    """
    message = f"{what}: {failure.reason}"
    if failure.kind is Kind.ABSENT:
        return NotFound(
            message, code="object_not_found", hint="it was never written, or was deleted"
        )
    if failure.kind is Kind.LOST and wrote:
        return OutcomeUnknown(
            message,
            code="store_outcome_unknown",
            hint="the write may have landed: read it back before trying again",
        )
    if failure.kind in {Kind.LOST, Kind.BUSY, Kind.CONTENDED}:
        return Unavailable(
            message,
            code="store_unavailable",
            hint=f"check the network and that {endpoint} answers, then try again",
        )
    return Storage(message, code=failure.code, hint=failure.hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _of_answer(response: dict[str, Any]) -> Failed:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    code = str(response.get("Error", {}).get("Code") or status)
    said = str(response.get("Error", {}).get("Message") or "")[:200]
    reason = f"the server answers {status} {code if code != str(status) else ''}".rstrip()
    reason += f" ({said})" if said and said != code else ""
    if code in _REFUSALS:
        return Failed(Kind.REFUSED, reason, *_REFUSALS[code])
    kind = {404: Kind.ABSENT, 412: Kind.TAKEN, 409: Kind.CONTENDED, 416: Kind.RANGE}.get(status)
    if kind is not None:
        return Failed(kind, reason)
    if status == 429 or code in _BUSY_CODES:
        return Failed(Kind.BUSY, reason)
    if status in _REFUSAL_STATUSES:
        return Failed(Kind.REFUSED, reason, *_REFUSAL_STATUSES[status])
    if status >= 500 or status < 300:  # below 300: a success whose body says that it was none
        return Failed(Kind.LOST, reason)
    return Failed(Kind.REFUSED, reason)


def _of_exception(error: BaseException) -> Failed | None:
    if isinstance(error, boto.EndpointConnectionError):
        # aiobotocore calls every broken connection so; only some were never made.
        inner = error.kwargs.get("error")
        unmade = isinstance(inner, aiohttp.ClientConnectorError | socket.gaierror)
        return Failed(Kind.BUSY if unmade else Kind.LOST, f"{error} ({inner})")
    for kinds, kind, code, hint in _EXCEPTIONS:
        if isinstance(error, kinds):
            return Failed(kind, (str(error) or type(error).__name__)[:300], code, hint)
    return None
