"""How to reach S3: from the environment and fsspec's configuration to the client's options.

    FSSPEC_S3_…, fsspec.config ──┐
    AWS_REGION, AWS_MAX_ATTEMPTS ┼──> S3Options ──> s3fs.S3FileSystem
    limits of ours ──────────────┘        └───────> a pyarrow filesystem, if it can have them all

botocore itself reads credentials, profiles and endpoints (AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3, ~/.aws/config …); this adds what it does not read. What
the user set wins, but for one: the client itself never repeats a request. Repeating is the
store's, as only it knows which requests may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 30
IN_FLIGHT_MAX: Final = 64
ATTEMPTS: Final = 3
ATTEMPTS_MAX: Final = 10

# What a pyarrow filesystem can be told too; with any other option it is not used.
_PLAIN: Final = frozenset(
    {"key", "secret", "token", "username", "password", "endpoint_url", "profile"}
    | {"client_kwargs", "config_kwargs", "use_listings_cache", "skip_instance_cache"}
)
_PLAIN_CLIENT: Final = frozenset(
    {"region_name", "endpoint_url"}
    | {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
)
_PLAIN_CONFIG: Final = frozenset(
    {"connect_timeout", "read_timeout", "retries", "max_pool_connections", "region_name"}
)


@dataclass(frozen=True, slots=True)
class S3Options:
    """Options of one store.

    Attributes:
        arguments: For `s3fs.S3FileSystem`.
        attempts: How often a request that may be repeated is sent, 1–10.
        is_plain: Whether a client that is not botocore's would reach the same objects.
    """

    arguments: Mapping[str, Any]
    attempts: int
    is_plain: bool


def s3_options(configured: Mapping[str, Any], environment: Mapping[str, str]) -> S3Options:
    """Return the options of a new store.

    Args:
        configured: What fsspec's configuration says for s3.
        environment: The process's.
    """
    client = dict(configured.get("client_kwargs") or {})
    config = dict(configured.get("config_kwargs") or {})
    plain = (
        _PLAIN.issuperset(configured)
        and _PLAIN_CLIENT.issuperset(client)
        and _PLAIN_CONFIG.issuperset(config)
    )
    region = environment.get("AWS_REGION")
    if region and "region_name" not in client and "region_name" not in config:
        client["region_name"] = region
    attempts = _attempts(config.get("retries"), environment.get("AWS_MAX_ATTEMPTS"))
    config = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "max_pool_connections": IN_FLIGHT_MAX,
        **config,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    arguments = {
        **configured,
        "client_kwargs": client,
        "config_kwargs": config,
        "asynchronous": False,
        "use_listings_cache": False,
        # Two stores of one process may have other credentials or endpoints.
        "skip_instance_cache": True,
    }
    return S3Options(arguments, attempts, plain)


def _attempts(retries: object, variable: str | None) -> int:
    wanted = ATTEMPTS
    if variable and variable.isdecimal():
        wanted = int(variable)
    if isinstance(retries, dict):
        if "total_max_attempts" in retries:
            wanted = int(retries["total_max_attempts"])
        elif "max_attempts" in retries:
            wanted = int(retries["max_attempts"]) + 1
    return max(1, min(wanted, ATTEMPTS_MAX))
