"""Errors on the wire: what goes out comes back, and what is not known stays unknown."""

from __future__ import annotations

import grpc
import pytest

from workbench import errors
from workbench.node.errors import (
    EXHAUSTED_CODES,
    MESSAGE_CHARS_MAX,
    PRECONDITION_CODES,
    Failure,
    error_of,
    message_of,
    never_sent,
    status_of,
    trailers_of,
)

CLASSES = [
    (errors.InvalidInput, "INVALID_ARGUMENT"),
    (errors.InvalidArgument, "INVALID_ARGUMENT"),
    (errors.NotFound, "NOT_FOUND"),
    (errors.Conflict, "ABORTED"),
    (errors.AlreadyExists, "ALREADY_EXISTS"),
    (errors.Unavailable, "UNAVAILABLE"),
    (errors.OutcomeUnknown, "UNAVAILABLE"),
    (errors.Corruption, "INTERNAL"),
    (errors.Storage, "INTERNAL"),
    (errors.Internal, "INTERNAL"),
]
FAILED_TO_CONNECT = "failed to connect to all addresses; last error: UNKNOWN: refused"


def over_the_wire(error):
    """Return what a client makes of an error that a node answered with."""
    failure = Failure(status_of(error), message_of(error), trailers_of(error))
    return error_of(failure, peer="127.0.0.1:7101", writes=True)


@pytest.mark.parametrize(("kind", "status"), CLASSES)
def test_every_class_has_its_status_and_comes_back_as_it_was(kind, status):
    error = kind("it is wrong", code="some_code", hint="mend it")
    assert status_of(error).name == status
    back = over_the_wire(error)
    assert back.kind == error.kind
    assert back.code == "some_code"
    assert str(back) == str(error)


def test_every_class_of_the_tree_is_covered():
    direct = set(errors.WorkbenchError.__subclasses__())
    assert {kind for kind, _ in CLASSES} >= direct


@pytest.mark.parametrize("code", sorted(PRECONDITION_CODES))
def test_what_must_change_first_is_a_failed_precondition(code):
    for kind in (errors.Unavailable, errors.Conflict):
        error = kind("no", code=code)
        assert status_of(error) is grpc.StatusCode.FAILED_PRECONDITION
        assert type(over_the_wire(error)) is kind


@pytest.mark.parametrize("code", sorted(EXHAUSTED_CODES))
def test_too_much_in_flight_is_resource_exhausted_and_may_be_retried(code):
    error = errors.Unavailable("full", code=code)
    assert status_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert over_the_wire(error).retryable


def test_a_message_fits_into_one_header_line():
    error = errors.InvalidInput("a\nb" + "x" * 5_000, code="long")
    assert "\n" not in message_of(error)
    assert len(message_of(error)) == MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    ("status", "details", "written", "read"),
    [
        ("DEADLINE_EXCEEDED", "", "outcome_unknown", "unavailable"),
        ("UNAVAILABLE", "Socket closed", "outcome_unknown", "unavailable"),
        ("UNAVAILABLE", FAILED_TO_CONNECT, "unavailable", "unavailable"),
        ("CANCELLED", "", "outcome_unknown", "unavailable"),
        ("INTERNAL", "stream reset", "outcome_unknown", "internal"),
        ("UNKNOWN", "", "outcome_unknown", "internal"),
        ("ABORTED", "version", "conflict", "conflict"),
        ("NOT_FOUND", "", "not_found", "not_found"),
        ("FAILED_PRECONDITION", "", "unavailable", "unavailable"),
        ("UNIMPLEMENTED", "", "invalid_input", "invalid_input"),
        ("RESOURCE_EXHAUSTED", "larger than max", "invalid_input", "invalid_input"),
    ],
)
def test_a_status_without_our_code_never_calls_a_sent_write_failed(status, details, written, read):
    failure = Failure(grpc.StatusCode[status], details)
    assert error_of(failure, peer="p", writes=True).kind == written
    assert error_of(failure, peer="p", writes=False).kind == read


def test_only_a_refused_connection_counts_as_never_sent():
    assert never_sent(Failure(grpc.StatusCode.UNAVAILABLE, FAILED_TO_CONNECT))
    assert not never_sent(Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    assert not never_sent(Failure(grpc.StatusCode.DEADLINE_EXCEEDED, FAILED_TO_CONNECT))


def test_a_method_names_the_codes_of_a_server_that_sends_none():
    failure = Failure(grpc.StatusCode.ABORTED, "stale")
    codes = {grpc.StatusCode.ABORTED: "catalog_version_mismatch"}
    found = error_of(failure, peer="p", writes=True, codes=codes)
    assert found.code == "catalog_version_mismatch"


@pytest.mark.parametrize("code", ["", "Has Blanks", "x" * 65, "läuft"])
def test_a_code_that_is_none_is_not_believed(code):
    failure = Failure(grpc.StatusCode.NOT_FOUND, "text", (("x-workbench-code", code),))
    assert error_of(failure, peer="p", writes=False).code == "status_not_found"


def test_a_kind_that_is_none_falls_back_to_the_status():
    trailers = (("x-workbench-code", "some_code"), ("x-workbench-kind", "sideways"))
    for status, kind in (("ABORTED", "conflict"), ("UNAVAILABLE", "unavailable")):
        failure = Failure(grpc.StatusCode[status], "text", trailers)
        assert error_of(failure, peer="p", writes=True).kind == kind


def test_a_host_that_does_not_resolve_was_not_reached_and_shows_no_brackets():
    text = "errors resolving no.invalid:1: [field:hostname lookup error: not found]"
    error = error_of(Failure(grpc.StatusCode.UNAVAILABLE, text), peer="no.invalid:1", writes=True)
    assert (error.kind, error.code) == ("unavailable", "node_unreachable")
    assert error.message == "no connection to no.invalid:1: its host name has no address"
