"""Rows of the route catalog: vectors written by hand from the format, and everything near them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.errors import Corruption, InvalidArgument
from workbench.model.keys import KEY_BYTES_MAX, Span
from workbench.model.routes import RouteDescriptor, RouteState
from workbench.routing import records
from workbench.routing.records import MutationOp, RouteDelta, RouteMutation

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats/route_catalog.md"

# name: (record version, hex with a space between fields, the route)
ROUTES = {
    "v1 open end": (
        1,
        "01 0000000000000001 0000000000000001 00 0000000000000000 0000000000000000 00",
        RouteDescriptor(1, Span(b"", None), 1),
    ),
    "v1 finite end": (
        1,
        (
            "01 0000000000000003 0000000000000002 01 0000000000000001"
            " 0000000000000001 61 01 0000000000000002 6d00"
        ),
        RouteDescriptor(3, Span(b"a", b"m\x00"), 2, RouteState.WRITE_FENCED, 1),
    ),
    "v2 open end": (
        2,
        (
            "02 0000000000000102 0000000000000003 02 0000000000000100"
            " 0000000000000003 ff0001 00 019aa1b2c3d40007"
        ),
        RouteDescriptor(
            258,
            Span(b"\xff\x00\x01", None),
            3,
            RouteState.MIGRATING_SOURCE,
            256,
            0x019AA1B2C3D40007,
        ),
    ),
    "v2 finite end": (
        2,
        (
            "02 ffffffffffffffff 8000000000000000 03 fffffffffffffffe"
            " 0000000000000000 01 0000000000000004 75736572 ffffffffffffffff"
        ),
        RouteDescriptor(
            2**64 - 1,
            Span(b"", b"user"),
            2**63,
            RouteState.MIGRATING_TARGET,
            2**64 - 2,
            2**64 - 1,
        ),
    ),
    "v2 seed": (
        2,
        (
            "02 0000000000000001 0000000000000001 00 0000000000000000"
            " 0000000000000000 00 0000000000000000"
        ),
        RouteDescriptor(1, Span(b"", None), 1),
    ),
}
DELTA_HEX = (
    "01 0000000000000007 0000000000000008 0000000000000003"
    " 02 0000000000000003 0000000000000000"
    " 01 0000000000000009 0000000000000035"
    " 02 0000000000000009 0000000000000002 00 0000000000000003"
    " 0000000000000001 61 01 0000000000000001 66 0000000000000005"
    " 01 000000000000000a 0000000000000035"
    " 02 000000000000000a 0000000000000002 00 0000000000000003"
    " 0000000000000001 66 01 0000000000000001 6d 0000000000000005"
)
DELTA = RouteDelta(
    7,
    8,
    (
        RouteMutation(MutationOp.DELETE, 3, None),
        RouteMutation(
            MutationOp.UPSERT,
            9,
            RouteDescriptor(9, Span(b"a", b"f"), 2, parent_route_id=3, split_at_hlc=5),
        ),
        RouteMutation(
            MutationOp.UPSERT,
            10,
            RouteDescriptor(10, Span(b"f", b"m"), 2, parent_route_id=3, split_at_hlc=5),
        ),
    ),
)
EMPTY_DELTA_HEX = "01 0000000000000000 0000000000000001 0000000000000000"
COUNTER_HEX = "01 0000000000000102"


def raw(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def patched(text: str, field: int, value: str) -> bytes:
    """Return the bytes of a vector with one of its fields replaced."""
    fields = text.split()
    fields[field] = value
    return raw(" ".join(fields))


def offset_of(error: Corruption) -> int:
    found = re.search(r"malformed at offset (\d+)", error.message)
    assert found, error.message
    return int(found[1])


def refused(data: bytes, decode=records.decode_route, code="route_record_invalid") -> int:
    """Assert that `data` is refused as corrupt, and return the offset that is named."""
    with pytest.raises(Corruption) as caught:
        decode(data)
    assert caught.value.code == code
    assert caught.value.hint
    return offset_of(caught.value)


def refused_delta(data: bytes) -> int:
    return refused(data, records.decode_delta, "delta_record_invalid")


def refused_counter(data: bytes) -> int:
    return refused(
        data,
        lambda each: records.decode_counter(each, what="next_route_id"),
        "catalog_counter_invalid",
    )


# --- route records


@pytest.mark.parametrize("name", ROUTES)
def test_route_record_is_read_and_written_byte_for_byte(name):
    version, text, route = ROUTES[name]
    assert records.decode_route(raw(text)) == route
    assert records.route_record_version(raw(text)) == version
    assert records.encode_route(route, version=version) == raw(text)


def test_version_2_is_written_unless_told_otherwise():
    _, text, route = ROUTES["v2 seed"]
    assert records.encode_route(route) == raw(text)


def test_state_byte_is_the_number_of_the_wires_enum_less_one():
    text = ROUTES["v2 seed"][1]
    states = [records.decode_route(patched(text, 3, f"{byte:02x}")).state for byte in range(4)]
    assert states == ["ACTIVE", "WRITE_FENCED", "MIGRATING_SOURCE", "MIGRATING_TARGET"]


@pytest.mark.parametrize("name", ROUTES)
def test_every_truncation_of_a_route_record_is_refused_where_a_field_is_cut(name):
    text = ROUTES[name][1]
    starts, at = [], 0
    for each in text.split():
        starts.append(at)
        at += len(each) // 2
    for size in range(at):
        assert refused(raw(text)[:size]) == max(start for start in starts if start <= size)


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("extra", [b"\x00", b"\x01", b"\xff" * 9])
def test_every_trailing_byte_of_a_route_record_is_refused(name, extra):
    data = raw(ROUTES[name][1])
    assert refused(data + extra) == len(data)


@pytest.mark.parametrize("version", [0, 3, 4, 255])
def test_unknown_record_version_is_refused(version):
    data = patched(ROUTES["v2 seed"][1], 0, f"{version:02x}")
    assert refused(data) == 0
    with pytest.raises(Corruption):
        records.route_record_version(data)


def test_state_byte_out_of_range_is_refused():
    for byte in range(4, 256):
        assert refused(patched(ROUTES["v2 seed"][1], 3, f"{byte:02x}")) == 17


def test_unknown_end_flag_is_refused():
    for flag in range(2, 256):
        assert refused(patched(ROUTES["v2 seed"][1], 6, f"{flag:02x}")) == 34


def test_zero_id_and_zero_group_are_refused():
    text = ROUTES["v2 seed"][1]
    assert refused(patched(text, 1, "00" * 8)) == 1
    assert refused(patched(text, 2, "00" * 8)) == 9


@pytest.mark.parametrize("end", ["61", "6100", "60", ""])
def test_end_that_is_not_above_start_is_refused(end):
    head = "01 0000000000000003 0000000000000002 01 0000000000000001 0000000000000002 6100 01"
    data = raw(f"{head} {len(end) // 2:016x} {end}")
    assert refused(data) == 37


def test_key_at_the_limit_is_read_and_a_longer_one_refused():
    for size, fits in ((KEY_BYTES_MAX, True), (KEY_BYTES_MAX + 1, False), (2**64 - 1, False)):
        body = "61" * min(size, KEY_BYTES_MAX + 1)
        head = "02 0000000000000001 0000000000000001 00 0000000000000000"
        as_start = raw(f"{head} {size:016x} {body} 00 0000000000000000")
        as_end = raw(f"{head} 0000000000000000 01 {size:016x} {body} 0000000000000000")
        if fits:
            assert records.decode_route(as_start).span == Span(b"a" * size, None)
            assert records.decode_route(as_end).span == Span(b"", b"a" * size)
        else:
            assert (refused(as_start), refused(as_end)) == (26, 35)


def test_version_1_refuses_to_lose_the_time_of_a_split():
    with pytest.raises(InvalidArgument) as caught:
        records.encode_route(ROUTES["v2 open end"][2], version=1)
    assert caught.value.code == "route_record_version_lossy"


# --- rows: keys, and keys with their records


def test_keys_of_rows_are_those_of_the_format():
    assert records.META_VERSION == b"!dist|meta|version"
    assert records.META_NEXT_ROUTE_ID == b"!dist|meta|next_route_id"
    assert records.META_DELTA_FLOOR == b"!dist|meta|delta_floor"
    assert records.META_NEXT_JOB_ID == b"!dist|meta|next_job_id"
    assert records.route_key(258) == raw("21646973747c726f7574657c 0000000000000102")
    assert records.delta_key(258) == raw("21646973747c64656c74617c 0000000000000102")


@pytest.mark.parametrize("number", [1, 255, 256, 2**64 - 1])
def test_number_of_a_row_key_is_read_back(number):
    assert records.decode_row_id(records.route_key(number)) == number
    assert records.decode_row_id(records.delta_key(number)) == number


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"!dist|route|",
        b"!dist|route|" + b"\x00" * 8,
        b"!dist|route|" + b"\x01" * 7,
        b"!dist|route|" + b"\x01" * 9,
        b"!dist|delta|" + b"\x00" * 8,
        b"!dist|meta|version",
        b"!dist|jobs_|" + b"\x01" * 8,
        b"\x01" * 8,
    ],
)
def test_malformed_row_key_is_refused(key):
    with pytest.raises(Corruption) as caught:
        records.decode_row_id(key)
    assert caught.value.code == "catalog_key_invalid"
    assert key.hex() in caught.value.message


def test_key_and_record_of_a_route_name_the_same_id():
    _, text, route = ROUTES["v2 open end"]
    assert records.decode_route_row(records.route_key(258), raw(text)) == route
    with pytest.raises(Corruption) as caught:
        records.decode_route_row(records.route_key(257), raw(text))
    assert caught.value.code == "route_record_invalid"
    assert offset_of(caught.value) == 1
    with pytest.raises(Corruption) as caught:
        records.decode_route_row(records.delta_key(258), raw(text))
    assert caught.value.code == "catalog_key_invalid"


def test_key_and_record_of_a_delta_name_the_same_version():
    assert records.decode_delta_row(records.delta_key(8), raw(DELTA_HEX)) == DELTA
    with pytest.raises(Corruption) as caught:
        records.decode_delta_row(records.delta_key(7), raw(DELTA_HEX))
    assert caught.value.code == "delta_record_invalid"
    assert offset_of(caught.value) == 9
    with pytest.raises(Corruption):
        records.decode_delta_row(records.route_key(8), raw(DELTA_HEX))


# --- counters


def test_counter_is_nine_bytes():
    assert records.encode_counter(258) == raw(COUNTER_HEX)
    assert records.decode_counter(raw(COUNTER_HEX), what="next_route_id") == 258
    assert records.decode_counter(b"\x01" + b"\xff" * 8, what="version") == 2**64 - 1


def test_stored_zero_is_corrupt_for_all_but_the_version():
    zero = records.encode_counter(0)
    assert zero == raw("01 0000000000000000")
    assert refused_counter(zero) == 1
    assert records.decode_counter(zero, what="version", zero_allowed=True) == 0


def test_counter_of_another_length_or_version_is_refused():
    data = raw(COUNTER_HEX)
    assert [refused_counter(data[:size]) for size in range(9)] == [0] + [1] * 8
    assert refused_counter(data + b"\x00") == 9
    for version in (0, 2, 255):
        assert refused_counter(bytes([version]) + data[1:]) == 0


def test_corrupt_counter_is_named():
    with pytest.raises(Corruption, match="counter delta_floor"):
        records.decode_counter(b"", what="delta_floor")


# --- delta records


def test_delta_record_is_read_and_written_byte_for_byte():
    assert records.decode_delta(raw(DELTA_HEX)) == DELTA
    assert records.encode_delta(DELTA) == raw(DELTA_HEX)


def test_delta_without_mutations_is_one():
    assert records.decode_delta(raw(EMPTY_DELTA_HEX)) == RouteDelta(0, 1, ())
    assert records.encode_delta(RouteDelta(0, 1, ())) == raw(EMPTY_DELTA_HEX)


def test_delta_with_a_route_record_of_version_1_is_read():
    _, text, route = ROUTES["v1 finite end"]
    payload = raw(text)
    data = raw("01 0000000000000000 0000000000000001 0000000000000001 01 0000000000000003")
    data += len(payload).to_bytes(8, "big") + payload
    assert records.decode_delta(data).mutations == (RouteMutation(MutationOp.UPSERT, 3, route),)


def test_every_truncation_and_every_extra_byte_of_a_delta_record_is_refused():
    data = raw(DELTA_HEX)
    for size in range(len(data)):
        assert refused_delta(data[:size]) <= size
    assert refused_delta(data + b"\x00") == len(data)


# field of DELTA_HEX, its new value, the offset that is named
DELTA_FAULTS = {
    "unknown version": (0, "02", 0),
    "version not above the previous": (2, "0000000000000007", 9),
    "count too large": (3, "ffffffffffffffff", 182),
    "count too small": (3, "0000000000000002", 112),
    "unknown op 0": (4, "00", 25),
    "unknown op 3": (4, "03", 25),
    "zero route id": (5, "0000000000000000", 26),
    "delete with a payload": (6, "0000000000000001", 34),
    "delete read as upsert": (4, "01", 42),
    "payload longer than the record": (9, "ffffffffffffffff", 51),
    "payload with a byte too many": (9, "0000000000000036", 112),
    "payload a byte short": (9, "0000000000000034", 104),
    "zero id in the payload": (11, "0000000000000000", 60),
    "other id in the payload": (11, "000000000000000b", 60),
    "unknown state in the payload": (13, "04", 76),
    "unknown end flag in the payload": (17, "02", 94),
}


@pytest.mark.parametrize("name", DELTA_FAULTS)
def test_faulty_delta_record_is_refused_at_its_offset(name):
    field, value, offset = DELTA_FAULTS[name]
    assert refused_delta(patched(DELTA_HEX, field, value)) == offset


def test_route_that_a_delta_changes_twice_is_refused():
    fields = DELTA_HEX.split()
    again = " ".join([*fields[:3], "0000000000000002", *fields[4:7], *fields[4:7]])
    assert refused_delta(raw(again)) == 25 + 17


# --- single changed bytes


@pytest.mark.parametrize("name", ROUTES)
def test_changed_byte_is_refused_or_read_as_what_it_now_says(name):
    version, text, _ = ROUTES[name]
    data = raw(text)
    for at in range(len(data)):
        for flip in (0x01, 0x02, 0x80, 0xFF):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                route = records.decode_route(changed)
            except Corruption:
                continue
            now = records.route_record_version(changed)
            assert records.encode_route(route, version=now) == changed
            assert at or now != version


# --- the document


def test_document_shows_the_vectors():
    text = DOCUMENT.read_text()
    shown = {re.sub(r"\s", "", block) for block in re.findall(r"```hex\n(.*?)```", text, re.DOTALL)}
    for name in ("v1 finite end", "v2 finite end", "v2 open end"):
        assert ROUTES[name][1].replace(" ", "") in shown, name
    assert DELTA_HEX.replace(" ", "") in shown
    assert COUNTER_HEX.replace(" ", "") in shown
