"""What a client refuses before anything is sent."""

from __future__ import annotations

import pytest

from workbench.client.checks import check_call, checked_addresses
from workbench.client.values import Mutation, Precondition, Read, Write
from workbench.errors import InvalidArgument, InvalidInput
from workbench.model.keys import KEY_BYTES_MAX
from workbench.model.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX
from workbench.node.client import NodeClient
from workbench.node.kv_client import Kv

VALUE = b"v" * VALUE_BYTES_MAX
LONG_KEY = b"k" * (KEY_BYTES_MAX + 1)


@pytest.mark.parametrize("client", [Kv, NodeClient])
@pytest.mark.parametrize(
    "addresses",
    [
        "127.0.0.1:40101",
        b"127.0.0.1:40101",
        ["node://127.0.0.1:40101"],
        ["127.0.0.1:40101/"],
        ["127.0.0.1"],
        ["127.0.0.1:0"],
        ["127.0.0.1:65536"],
        [":40101"],
        ["127.0.0.1:40101", ""],
        [40101],
    ],
)
def test_what_is_no_list_of_addresses_is_refused_before_anybody_is_called(client, addresses):
    with pytest.raises(InvalidArgument, match="HOST:PORT") as refused:
        client(addresses)
    assert refused.value.code == "client_arguments"


def test_addresses_of_every_kind_of_host_are_taken():
    given = ["127.0.0.1:1", "localhost:65535", "[::1]:40101", "node-1.example:7011"]
    assert checked_addresses(iter(given)) == tuple(given)


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (Write((Mutation(b"k", VALUE + b"v"),)), "value_too_long", "several keys"),
        (Write((Mutation(b"k", VALUE * 17),)), "value_too_long", "several keys"),
        (Write((Mutation(LONG_KEY, b""),)), "key_too_long", "4097 bytes"),
        (Write((Mutation(b"k", b""),), (Precondition(LONG_KEY),)), "key_too_long", "4097 bytes"),
        (Read((b"k", LONG_KEY)), "key_too_long", "4097 bytes"),
        (Write((Mutation(b"k", VALUE), Mutation(b"l", VALUE))), "batch_too_large", "batches"),
    ],
)
def test_what_every_node_refuses_for_its_length_is_not_sent(call, code, said):
    with pytest.raises(InvalidInput, match=said) as refused:
        check_call(call, 1_000)
    assert refused.value.code == code


def test_the_longest_that_a_node_takes_is_taken():
    assert BATCH_BYTES_MAX == 2 * VALUE_BYTES_MAX
    check_call(Write((Mutation(b"k" * KEY_BYTES_MAX, VALUE), Mutation(b"l", VALUE[:9999]))), 1)
    check_call(Write((Mutation(b"k", VALUE), Mutation(b"l", None))), 1)
    check_call(Read((b"k" * KEY_BYTES_MAX,)), 1)
