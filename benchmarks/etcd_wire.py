"""The part of etcd's v3 API that the benchmarks speak, described by field number.

    KV: Range, Put, Txn        Maintenance: Status

Made at import from the table below, so that no generated code of a rival lies in this project;
the messages run in the same protobuf library as ours, and cost the client the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from google.protobuf.message import Message

RANGE: Final = "/etcdserverpb.KV/Range"
PUT: Final = "/etcdserverpb.KV/Put"
TXN: Final = "/etcdserverpb.KV/Txn"
STATUS: Final = "/etcdserverpb.Maintenance/Status"

# message: (field, number, type), a trailing * for a repeated one.
_MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "Header": (("member_id", 2, "uint64"), ("revision", 3, "int64")),
    "KeyValue": (("key", 1, "bytes"), ("value", 5, "bytes")),
    "RangeRequest": (
        ("key", 1, "bytes"),
        ("range_end", 2, "bytes"),
        ("limit", 3, "int64"),
        ("revision", 4, "int64"),
    ),
    "RangeResponse": (
        ("header", 1, "Header"),
        ("kvs", 2, "KeyValue*"),
        ("more", 3, "bool"),
        ("count", 4, "int64"),
    ),
    "PutRequest": (("key", 1, "bytes"), ("value", 2, "bytes")),
    "PutResponse": (("header", 1, "Header"),),
    "RequestOp": (("request_range", 1, "RangeRequest"), ("request_put", 2, "PutRequest")),
    "ResponseOp": (("response_range", 1, "RangeResponse"), ("response_put", 2, "PutResponse")),
    "TxnRequest": (("success", 2, "RequestOp*"),),
    "TxnResponse": (
        ("header", 1, "Header"),
        ("succeeded", 2, "bool"),
        ("responses", 3, "ResponseOp*"),
    ),
    "StatusRequest": (),
    "StatusResponse": (("header", 1, "Header"), ("version", 2, "string"), ("leader", 4, "uint64")),
}
_PACKAGE: Final = "workbench.benchmarks.etcd"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint64": _FIELD.TYPE_UINT64,
}


def _classes() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="workbench/benchmarks/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            plain = kind.removesuffix("*")
            added = message.field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if kind != plain else _FIELD.LABEL_OPTIONAL
            if plain in _SCALARS:
                added.type = _SCALARS[plain]
            else:
                added.type = _FIELD.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES: Final = _classes()


def make(name: str, **fields: object) -> Message:
    """Return a message of the table above."""
    made: Message = _CLASSES[name](**fields)
    return made


def parse(name: str, data: bytes) -> Any:  # noqa: ANN401 - its fields are known by name only
    """Return the message of a name that `data` is."""
    return _CLASSES[name].FromString(data)
