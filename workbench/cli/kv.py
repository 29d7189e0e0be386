"""`workbench kv`: write and read keys of a running cluster, for trying things."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from workbench.cli.common import Duration, emit, json_option, print_table
from workbench.errors import InvalidArgument, InvalidInput, NotFound
from workbench.model.keys import check_key, printable_key
from workbench.report.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.model.node import StoredVersion
    from workbench.node.kv_client import Kv

SCHEME: Final = "node://"
SCAN_ROWS: Final = 100

F = TypeVar("F", bound="Callable[..., Any]")


def target_options(command: F) -> F:
    """Add `--target` and how patient to be with it."""
    for option in (
        click.option(
            "--attempt-timeout",
            "attempt_ms",
            type=Duration(),
            default="2s",
            show_default=True,
            help="How long one node may take to answer, before another is asked.",
        ),
        click.option(
            "--timeout",
            "timeout_ms",
            type=Duration(),
            default="10s",
            show_default=True,
            help="How long to go on trying.",
        ),
        click.option(
            "--target",
            metavar="URL",
            required=True,
            help="The cluster, as node://HOST:PORT[,HOST:PORT].",
        ),
    ):
        command = option(command)
    return command


def addresses_of(target: str) -> list[str]:
    """Return the addresses that a `node://` URL names; raises InvalidArgument (`url_invalid`)."""
    from workbench.client.checks import PORT_MAX, is_address  # not needed for a page of help

    addresses = [each for each in target.removeprefix(SCHEME).removesuffix("/").split(",") if each]
    sound = addresses and all(map(is_address, addresses))
    if not target.startswith(SCHEME) or not sound:
        raise InvalidArgument(
            f"{target!r} names no nodes",
            code="url_invalid",
            hint=f"write {SCHEME}HOST:PORT[,HOST:PORT], with a port from 1 to {PORT_MAX} each",
        )
    return addresses


def bytes_of(text: str, what: str) -> bytes:
    """Return what is written as text, or as 0x and hex digits; InvalidArgument (`key_invalid`)."""
    try:
        return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    except ValueError as error:
        # What was typed may be no UTF-8 either; these are the bytes that were.
        typed = text.encode(errors="surrogateescape").hex()
        rule = "after 0x come pairs of hex digits" if text.startswith("0x") else "that is no UTF-8"
        raise InvalidArgument(
            f"{what} is {text!r}, and {rule}",
            code="key_invalid",
            hint=f"where it is meant as it stands, write its bytes: 0x{typed}",
        ) from error


def key_of(text: str, what: str = "key") -> bytes:
    """Return a key that is written as `bytes_of` has it; also InvalidInput (`key_too_long`)."""
    return check_key(bytes_of(text, what), what)


@click.group()
def kv() -> None:
    """Write and read keys of a running cluster, to try things.

    A key or value is written as the tables show it: as text, or as 0x and hex digits.

    \b
    Examples:
      workbench kv put user/17 hello --target node://127.0.0.1:40101
      workbench kv get user/17 --target node://127.0.0.1:40101
      workbench kv scan user/ user0 --target node://127.0.0.1:40101 --limit 20
    """


@kv.command()
@click.argument("key")
@click.argument("value")
@click.option("--expire-in", "expire_ms", type=Duration(), help="Until it is gone by itself.")
@click.option("--if-absent", is_flag=True, help="Only where the key has no value.")
@target_options
@json_option
def put(key: str, value: str, expire_ms: int | None, if_absent: bool, **given: Any) -> None:
    """Write one key, exactly once.

    VALUE of - reads it from stdin, byte by byte as it comes; the value "-" itself is 0x2d.

    \b
    Examples:
      workbench kv put user/17 hello --target node://127.0.0.1:40101
      workbench kv put 0x0102 0xff --target node://127.0.0.1:40101 --json
      workbench kv put session/9 x --expire-in 10m --target node://127.0.0.1:40101
      workbench kv put lock mine --if-absent --target node://127.0.0.1:40101
      workbench kv put page/1 - --target node://127.0.0.1:40101 < page.html
    """
    from workbench.node.kv_client import Mutation, Precondition
    from workbench.session.system import SystemClock

    data = key_of(key)
    expire_at_ms = 0
    if expire_ms is not None:
        expire_at_ms = int(SystemClock().now().timestamp() * 1_000) + expire_ms
    mutation = Mutation(data, _value_of(value), expire_at_ms)
    preconditions = [Precondition(data)] if if_absent else []
    with _open(given) as client:
        written = client.write([mutation], preconditions=preconditions)
    fields = {"key": data.hex(), "commit_ts": written.commit_ts, "index": written.index}
    if given["as_json"]:
        emit("kv_put", {**fields, "expire_at_ms": expire_at_ms or None})
    else:
        click.echo(f"wrote {printable_key(data)} at {written.commit_ts}")


@kv.command()
@click.argument("key")
@target_options
@json_option
def delete(key: str, **given: Any) -> None:
    """Delete one key, exactly once; whether it had a value is not told.

    \b
    Examples:
      workbench kv delete user/17 --target node://127.0.0.1:40101
    """
    data = key_of(key)
    with _open(given) as client:
        written = client.delete(data)
    if given["as_json"]:
        fields = {"key": data.hex(), "commit_ts": written.commit_ts, "index": written.index}
        emit("kv_put", {**fields, "expire_at_ms": None})
    else:
        # The answer does not tell whether there was one.
        click.echo(f"no value under {printable_key(data)} any more, as of {written.commit_ts}")


@kv.command()
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--read-ts", metavar="HLC|TIME", help="As of when; default, and 0: now.")
@target_options
@json_option
def get(keys: tuple[str, ...], read_ts: str | None, **given: Any) -> None:
    """Read keys, all as of one moment; status 1 where none of them has a value.

    \b
    Examples:
      workbench kv get user/17 --target node://127.0.0.1:40101
      workbench kv get user/17 user/18 --target node://127.0.0.1:40101 --json
      workbench kv get user/17 --read-ts 2026-11-21T12:00:00Z --target node://127.0.0.1:40101
    """
    wanted = [key_of(key) for key in keys]
    with _open(given) as client:
        got = client.multi_get(wanted, read_ts=_read_ts(read_ts))
    if not any(got.versions):
        named = ", ".join(printable_key(key) for key in wanted[:5])
        raise NotFound(f"no value under {named}", code="key_absent", hint="see `workbench kv scan`")
    pairs = list(zip(wanted, got.versions, strict=True))
    if given["as_json"]:
        rows = [_row(key, version) for key, version in pairs]
        emit("kv_get", {"read_ts": got.read_ts, "rows": rows})
    elif len(pairs) == 1 and pairs[0][1] is not None:
        click.echo(_shown(pairs[0][1].value))
    else:
        _print("Values", pairs)


@kv.command()
@click.argument("start", required=False, default="")
@click.argument("end", required=False)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=SCAN_ROWS,
    show_default=True,
    help="Of rows.",
)
@click.option("--reverse", is_flag=True, help="The largest keys first.")
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
@click.option("--read-ts", metavar="HLC|TIME", help="As of when; default, and 0: now.")
@target_options
@json_option
def scan(
    start: str,
    end: str | None,
    limit: int,
    reverse: bool,
    keys_only: bool,
    read_ts: str | None,
    **given: Any,
) -> None:
    """Show the rows from START up to END, which is left out; all of one moment.

    \b
    Examples:
      workbench kv scan --target node://127.0.0.1:40101
      workbench kv scan user/ user0 --limit 20 --reverse --target node://127.0.0.1:40101
      workbench kv scan 0x00 0xff --keys-only --json --target node://127.0.0.1:40101
    """
    low, high = key_of(start, "START"), None if end is None else key_of(end, "END")
    with _open(given) as client:
        found = client.scan(
            low,
            high,
            read_ts=_read_ts(read_ts),
            limit=limit + 1,
            reverse=reverse,
            keys_only=keys_only,
            timeout_s=given["timeout_ms"] / 1_000,
        )
        rows: list[tuple[bytes, StoredVersion | None]] = [*found]
    more, rows = len(rows) > limit, rows[:limit]
    if given["as_json"]:
        shown = [_row(key, version, keys_only=keys_only) for key, version in rows]
        emit("kv_scan", {"rows": shown, "more": more})
        return
    if not rows:
        click.echo("no rows")
        return
    _print("Rows", rows)
    click.echo(f"{counted(len(rows), 'row')}{', and more follow' if more else ''}", err=True)


@kv.command()
@click.option(
    "--keep",
    "keep_ms",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How far back reads stay possible.",
)
@target_options
@json_option
def gc(keep_ms: int, **given: Any) -> None:
    """Collect what no read sees any more: versions that newer ones have hidden for so long.

    Reads as of an earlier moment are refused from then on, and an export as of one. A pin holds
    a moment, and with it the collection.

    \b
    Examples:
      workbench kv gc --keep 1h --target node://127.0.0.1:40101
      workbench kv gc --keep 7d --target node://127.0.0.1:40101 --json
    """
    from workbench.model.times import hlc_ms, hlc_of_ms
    from workbench.node.client import NodeClient

    rows: list[dict[str, Any]] = []
    addresses, timeout_s = addresses_of(given["target"]), given["timeout_ms"] / 1_000
    with NodeClient(addresses, timeout_s=timeout_s) as client:
        safe_point = hlc_of_ms(max(0, hlc_ms(client.timestamp()) - keep_ms))
        groups = sorted({group for each in client.members() for group in each.groups})
        for group in groups:
            step = client.collect_garbage(group, safe_point=safe_point)
            scanned = step.scanned
            while not step.done:
                step = client.collect_garbage(group)
                scanned += step.scanned
            rows.append({**step._asdict(), "scanned": scanned})
    for row in rows:
        del row["done"]
    if given["as_json"]:
        emit("kv_gc", {"asked": safe_point, "groups": rows})
        return
    print_table(
        "Garbage collection",
        [(name, "right") for name in ("group", "safe_point", "pins", "scanned", "dropped")],
        [
            [f"{row[name]}" for name in ("group", "safe_point", "pins", "scanned", "dropped")]
            for row in rows
        ],
    )


def _open(given: dict[str, Any]) -> Kv:
    from workbench.node.kv_client import Kv, Options

    options = Options(attempt_ms=given["attempt_ms"], watch=False)
    return Kv(addresses_of(given["target"]), options=options, timeout_s=given["timeout_ms"] / 1_000)


def _value_of(text: str) -> bytes:
    if text != "-":
        return bytes_of(text, "value")
    from workbench.model.limits import VALUE_BYTES_MAX

    data = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
    if len(data) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"stdin has more than {VALUE_BYTES_MAX} bytes, the limit of a value",
            code="value_too_long",
            hint="store it in parts, under several keys",
        )
    return data


def _read_ts(text: str | None) -> int:
    # 0 is the newest here as it is on the wire, not the year 1970.
    if text is None or text == "0":
        return 0
    from workbench.session.exporting_state import parse_read_ts  # slow to load

    return parse_read_ts(text)


def _row(key: bytes, version: StoredVersion | None, *, keys_only: bool = False) -> dict[str, Any]:
    return {
        "key": key.hex(),
        "value": None if version is None or keys_only else version.value.hex(),
        "commit_ts": None if version is None else version.commit_ts,
    }


def _print(title: str, pairs: list[tuple[bytes, StoredVersion | None]]) -> None:
    print_table(
        title,
        [("key", "left"), ("commit_ts", "right"), ("value", "left")],
        [
            [
                printable_key(key),
                "" if version is None else str(version.commit_ts),
                "no value" if version is None else _shown(version.value),
            ]
            for key, version in pairs
        ],
    )


def _shown(value: bytes) -> str:
    """Return a value as it may be shown: what is not plain text as hex digits."""
    return printable_key(value) if value else ""
