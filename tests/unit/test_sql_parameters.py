"""Values for SQL as they are written on a command line, and the package's queries by name."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidArgument
from workbench.model.keys import PRINTABLE_BYTES_MAX, printable_key
from workbench.query.named import QUERIES, named_query
from workbench.query.parameters import parse_parameters, parse_value
from workbench.session.exporting_state import parse_read_ts


def parsed(*given_: str, **kinds: str) -> object:
    return parse_parameters(given_, kinds, parse_hlc=parse_read_ts)


def test_every_type_is_read() -> None:
    assert parsed(
        "a=x=y",
        "b:int=-5",
        "c:float=0.5",
        "d:bool=TRUE",
        "e:time=2026-01-01T00:00:00Z",
        "f:hlc=117309505536065536",
        "g:key=user/1",
        "h:hex=00ff",
        "i:base64=AP8=",
        "j:null=",
        "k:key=0x00ff",
        "l=",
    ) == {
        "a": "x=y",
        "b": -5,
        "c": 0.5,
        "d": True,
        "e": datetime(2026, 1, 1, tzinfo=UTC),
        "f": 117309505536065536,
        "g": b"user/1",
        "h": b"\x00\xff",
        "i": b"\x00\xff",
        "j": None,
        "k": b"\x00\xff",
        "l": "",
    }


def test_known_types_need_not_be_written_and_values_without_names_keep_their_order() -> None:
    assert parsed("n=5", n="int") == {"n": 5}
    assert parsed("n:text=5", n="int") == {"n": "5"}
    assert parsed("=a", ":int=5") == ["a", 5]
    assert parsed() == []


def test_a_time_as_hlc_holds_all_commits_of_its_millisecond() -> None:
    found = parse_value("1970-01-02T00:00:00Z", "hlc", parse_hlc=parse_read_ts)
    assert found == (86_400_000 << 16) | 0xFFFF


@pytest.mark.parametrize(
    ("given_", "part"),
    [
        (["a"], "has no ="),
        (["a=1", "a=2"], "comes twice"),
        (["a=1", "=2"], "some have none"),
        (["1"], "-p =text -p :int=2"),
        (["a:int=x"], "parameter a: 'x' is no int; int is written as 5"),
        ([":int=1", ":int=x"], "parameter ?2: 'x' is no int"),
        (["k:time=soon"], "parameter k: "),
        (["a:int=" + "9" * 50], "is no int"),
        (["a:bool=yes"], "is no bool"),
        (["a:hex=0"], "is no hex"),
        (["a:base64=%"], "is no base64"),
        (["a:null=x"], "is no null"),
        (["a:key=0xzz"], "is no key"),
        (["a:key=a\\b"], "is no key"),
        (["a:key=" + printable_key(b"x" * 100)], "is no key"),
        (["a:blob=x"], "unknown type"),
        (["a:time=soon"], "soon"),
        (["a:hlc=soon"], "soon"),
    ],
)
def test_what_cannot_be_read_is_named(given_: list[str], part: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed(*given_)
    assert part in str(caught.value)


@given(st.binary(max_size=PRINTABLE_BYTES_MAX // 2 - 1))
def test_a_key_is_read_as_it_is_printed(key: bytes) -> None:
    assert parse_value(printable_key(key), "key", parse_hlc=parse_read_ts) == key


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_named_query_says_what_its_text_reads_and_takes(query: object) -> None:
    found = named_query(query.name)  # type: ignore[attr-defined]
    text = re.sub(r"--[^\n]*", "", found.sql)
    assert set(re.findall(r"\$(\w+)", text)) == set(found.parameters)
    names = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", text))
    own = set(re.findall(r"(\w+) AS \(", text))
    assert names - own == set(found.relations)


def test_an_unknown_query_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidArgument) as caught:
        named_query("as_of")
    assert caught.value.code == "query_unknown"
    assert "as-of" in str(caught.value)
