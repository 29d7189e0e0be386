"""A bucket and a prefix, from a URL such as `s3://bucket/path/to/catalog`.

What a URL may hold is little on purpose, as URLs end up in logs, in reports and in the catalog
itself:

- no user, password or key: they come from the environment;
- no query and no fragment: options come from the environment too;
- a path that is an object key (`check_object_key`); slashes around it do not count.

A message about a refused URL never shows what may be a secret in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from workbench.errors import InvalidArgument, InvalidInput
from workbench.ports.object_store import check_object_key

PREFIX_CHARS_MAX: Final = 512  # leaves as much for the keys below it
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,220}[A-Za-z0-9]")
_S3_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"[0-9]+(\.[0-9]+){3}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store's keys live.

    Attributes:
        scheme: As `s3`.
        bucket: Bucket or container.
        prefix: What stands before every key; empty, or with a slash at its end.
    """

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The place as users write it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")


def shown(url: str) -> str:
    """Return `url` without what may be a secret in it: user information, query, fragment.

    A secret key may hold slashes, so everything before the last `@` goes.
    """
    scheme, separator, rest = url.partition("://")
    if "@" in rest:
        rest = f"…@{rest.rpartition('@')[2]}"
    rest = re.sub(r"[?#].*", "?…", rest, flags=re.DOTALL)
    return f"{scheme}{separator}{rest}"[:256]


def parse_place(url: str) -> Place:
    """Return the place that `url` names.

    Raises:
        InvalidArgument: `store_url_credentials`, or `store_url_invalid`.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if "@" in rest or ":" in bucket:
        raise InvalidArgument(
            f"{shown(url)!r} holds a user, a key or a port",
            code="store_url_credentials",
            hint="write scheme://bucket/path; credentials and endpoint come from the environment, "
            "as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL (docs/stores.md)",
        )
    if "?" in rest or "#" in rest:
        raise _invalid(url, "options come from the environment (docs/stores.md), not from the URL")
    _check_bucket(url, scheme.lower(), bucket)
    path = path.strip("/")
    if path:
        try:
            check_object_key(path)
        except InvalidInput as error:
            hint = "a path has letters, digits and . _ - = / only, and no empty or dot segment"
            raise _invalid(url, hint) from error
    if len(path) > PREFIX_CHARS_MAX:
        raise _invalid(url, f"its path may have {PREFIX_CHARS_MAX} characters")
    return Place(scheme.lower(), bucket, f"{path}/" if path else "")


def _check_bucket(url: str, scheme: str, bucket: str) -> None:
    if not bucket:
        raise _invalid(url, f"write {scheme}://bucket/path")
    if scheme.rpartition("+")[2] == "s3":
        fits = (
            _S3_BUCKET.fullmatch(bucket) and ".." not in bucket and not _ADDRESS.fullmatch(bucket)
        )
        if not fits:
            raise _invalid(
                url, "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens"
            )
    elif not _BUCKET.fullmatch(bucket):
        raise _invalid(url, "a bucket's name has 3 to 222 letters, digits and . _ -")


def _invalid(url: str, hint: str) -> InvalidArgument:
    return InvalidArgument(
        f"{shown(url)!r} names no place for a catalog", code="store_url_invalid", hint=hint
    )
