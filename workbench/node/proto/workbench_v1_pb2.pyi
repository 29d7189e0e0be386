from google.protobuf import any_pb2 as _any_pb2
from workbench.node.proto import distribution_pb2 as _distribution_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CursorTag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CURSOR_TAG_EMITTED: _ClassVar[CursorTag]
    CURSOR_TAG_SCANNED: _ClassVar[CursorTag]
CURSOR_TAG_EMITTED: CursorTag
CURSOR_TAG_SCANNED: CursorTag

class Mutation(_message.Message):
    __slots__ = ("key", "value", "delete", "expire_at_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    delete: bool
    expire_at_ms: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., delete: _Optional[bool] = ..., expire_at_ms: _Optional[int] = ...) -> None: ...

class Precondition(_message.Message):
    __slots__ = ("key", "absent", "commit_ts")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    absent: bool
    commit_ts: int
    def __init__(self, key: _Optional[bytes] = ..., absent: _Optional[bool] = ..., commit_ts: _Optional[int] = ...) -> None: ...

class BatchWriteRequest(_message.Message):
    __slots__ = ("group", "client_id", "sequence", "mutations", "preconditions")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    PRECONDITIONS_FIELD_NUMBER: _ClassVar[int]
    group: int
    client_id: bytes
    sequence: int
    mutations: _containers.RepeatedCompositeFieldContainer[Mutation]
    preconditions: _containers.RepeatedCompositeFieldContainer[Precondition]
    def __init__(self, group: _Optional[int] = ..., client_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., mutations: _Optional[_Iterable[_Union[Mutation, _Mapping]]] = ..., preconditions: _Optional[_Iterable[_Union[Precondition, _Mapping]]] = ...) -> None: ...

class BatchWriteResponse(_message.Message):
    __slots__ = ("commit_ts", "index")
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    commit_ts: int
    index: int
    def __init__(self, commit_ts: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key", "read_ts")
    KEY_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    read_ts: int
    def __init__(self, key: _Optional[bytes] = ..., read_ts: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("read_ts", "version")
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    read_ts: int
    version: Version
    def __init__(self, read_ts: _Optional[int] = ..., version: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class GetTimestampRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: int
    def __init__(self, group: _Optional[int] = ...) -> None: ...

class GetTimestampResponse(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class MultiGetRequest(_message.Message):
    __slots__ = ("group", "keys", "read_ts")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    group: int
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    read_ts: int
    def __init__(self, group: _Optional[int] = ..., keys: _Optional[_Iterable[bytes]] = ..., read_ts: _Optional[int] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("exists", "value", "commit_ts")
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    value: bytes
    commit_ts: int
    def __init__(self, exists: _Optional[bool] = ..., value: _Optional[bytes] = ..., commit_ts: _Optional[int] = ...) -> None: ...

class MultiGetResponse(_message.Message):
    __slots__ = ("read_ts", "versions")
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    read_ts: int
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, read_ts: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("group", "start", "end", "read_ts", "reverse", "limit", "page_bytes", "keys_only")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    group: int
    start: bytes
    end: bytes
    read_ts: int
    reverse: bool
    limit: int
    page_bytes: int
    keys_only: bool
    def __init__(self, group: _Optional[int] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., read_ts: _Optional[int] = ..., reverse: _Optional[bool] = ..., limit: _Optional[int] = ..., page_bytes: _Optional[int] = ..., keys_only: _Optional[bool] = ...) -> None: ...

class ScanRow(_message.Message):
    __slots__ = ("key", "value", "commit_ts")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    commit_ts: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., commit_ts: _Optional[int] = ...) -> None: ...

class ScanChunk(_message.Message):
    __slots__ = ("read_ts", "rows", "done", "next_key")
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    read_ts: int
    rows: _containers.RepeatedCompositeFieldContainer[ScanRow]
    done: bool
    next_key: bytes
    def __init__(self, read_ts: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[ScanRow, _Mapping]]] = ..., done: _Optional[bool] = ..., next_key: _Optional[bytes] = ...) -> None: ...

class RouteMoved(_message.Message):
    __slots__ = ("group", "generation", "address")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    group: int
    generation: int
    address: str
    def __init__(self, group: _Optional[int] = ..., generation: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class RpcStatus(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class StreamWindowsRequest(_message.Message):
    __slots__ = ("since_us", "local_only")
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    LOCAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    since_us: int
    local_only: bool
    def __init__(self, since_us: _Optional[int] = ..., local_only: _Optional[bool] = ...) -> None: ...

class LoadWindows(_message.Message):
    __slots__ = ("node", "window_start_us", "window_end_us", "oldest_us", "rows", "keys")
    NODE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_US_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_US_FIELD_NUMBER: _ClassVar[int]
    OLDEST_US_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    node: int
    window_start_us: int
    window_end_us: int
    oldest_us: int
    rows: _containers.RepeatedCompositeFieldContainer[LoadRow]
    keys: _containers.RepeatedCompositeFieldContainer[RouteKeys]
    def __init__(self, node: _Optional[int] = ..., window_start_us: _Optional[int] = ..., window_end_us: _Optional[int] = ..., oldest_us: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[LoadRow, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[RouteKeys, _Mapping]]] = ...) -> None: ...

class RouteKeys(_message.Message):
    __slots__ = ("route_id", "untold_max", "hot_keys", "samples")
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    UNTOLD_MAX_FIELD_NUMBER: _ClassVar[int]
    HOT_KEYS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    untold_max: int
    hot_keys: _containers.RepeatedCompositeFieldContainer[HotKey]
    samples: _containers.RepeatedCompositeFieldContainer[KeySample]
    def __init__(self, route_id: _Optional[int] = ..., untold_max: _Optional[int] = ..., hot_keys: _Optional[_Iterable[_Union[HotKey, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[KeySample, _Mapping]]] = ...) -> None: ...

class HotKey(_message.Message):
    __slots__ = ("key", "count", "error")
    KEY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    count: int
    error: int
    def __init__(self, key: _Optional[bytes] = ..., count: _Optional[int] = ..., error: _Optional[int] = ...) -> None: ...

class KeySample(_message.Message):
    __slots__ = ("key", "write", "weight")
    KEY_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    write: bool
    weight: float
    def __init__(self, key: _Optional[bytes] = ..., write: _Optional[bool] = ..., weight: _Optional[float] = ...) -> None: ...

class LoadRow(_message.Message):
    __slots__ = ("route_id", "group", "bucket_start", "bucket_end", "reads", "writes", "read_bytes", "write_bytes", "coverage")
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BUCKET_START_FIELD_NUMBER: _ClassVar[int]
    BUCKET_END_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    group: int
    bucket_start: bytes
    bucket_end: bytes
    reads: int
    writes: int
    read_bytes: int
    write_bytes: int
    coverage: float
    def __init__(self, route_id: _Optional[int] = ..., group: _Optional[int] = ..., bucket_start: _Optional[bytes] = ..., bucket_end: _Optional[bytes] = ..., reads: _Optional[int] = ..., writes: _Optional[int] = ..., read_bytes: _Optional[int] = ..., write_bytes: _Optional[int] = ..., coverage: _Optional[float] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GroupStatus(_message.Message):
    __slots__ = ("id", "role", "term", "commit_index", "applied_index", "leader_node", "serving")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEADER_NODE_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    id: int
    role: str
    term: int
    commit_index: int
    applied_index: int
    leader_node: int
    serving: bool
    def __init__(self, id: _Optional[int] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., leader_node: _Optional[int] = ..., serving: _Optional[bool] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node", "address", "groups")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    node: int
    address: str
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[int] = ..., address: _Optional[str] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("cluster_id", "node", "pid", "version", "groups", "members", "catalog_version", "window_ms")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node: int
    pid: int
    version: str
    groups: _containers.RepeatedCompositeFieldContainer[GroupStatus]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    catalog_version: int
    window_ms: int
    def __init__(self, cluster_id: _Optional[str] = ..., node: _Optional[int] = ..., pid: _Optional[int] = ..., version: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[GroupStatus, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., catalog_version: _Optional[int] = ..., window_ms: _Optional[int] = ...) -> None: ...

class CatalogAtRequest(_message.Message):
    __slots__ = ("read_ts",)
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    read_ts: int
    def __init__(self, read_ts: _Optional[int] = ...) -> None: ...

class CatalogAtResponse(_message.Message):
    __slots__ = ("read_ts", "catalog_version", "routes")
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    read_ts: int
    catalog_version: int
    routes: _containers.RepeatedCompositeFieldContainer[_distribution_pb2.RouteDescriptor]
    def __init__(self, read_ts: _Optional[int] = ..., catalog_version: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[_distribution_pb2.RouteDescriptor, _Mapping]]] = ...) -> None: ...

class CollectGarbageRequest(_message.Message):
    __slots__ = ("group", "safe_point", "versions_max")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SAFE_POINT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_MAX_FIELD_NUMBER: _ClassVar[int]
    group: int
    safe_point: int
    versions_max: int
    def __init__(self, group: _Optional[int] = ..., safe_point: _Optional[int] = ..., versions_max: _Optional[int] = ...) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ("group", "pin_id", "read_ts")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    group: int
    pin_id: bytes
    read_ts: int
    def __init__(self, group: _Optional[int] = ..., pin_id: _Optional[bytes] = ..., read_ts: _Optional[int] = ...) -> None: ...

class UnpinRequest(_message.Message):
    __slots__ = ("group", "pin_id")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    group: int
    pin_id: bytes
    def __init__(self, group: _Optional[int] = ..., pin_id: _Optional[bytes] = ...) -> None: ...

class GarbageStatus(_message.Message):
    __slots__ = ("group", "safe_point", "pins", "dropped", "scanned", "done")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SAFE_POINT_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    SCANNED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    group: int
    safe_point: int
    pins: int
    dropped: int
    scanned: int
    done: bool
    def __init__(self, group: _Optional[int] = ..., safe_point: _Optional[int] = ..., pins: _Optional[int] = ..., dropped: _Optional[int] = ..., scanned: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("key", "commit_ts", "tag")
    KEY_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    commit_ts: int
    tag: CursorTag
    def __init__(self, key: _Optional[bytes] = ..., commit_ts: _Optional[int] = ..., tag: _Optional[_Union[CursorTag, str]] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("group", "start", "end", "read_ts", "cursor", "chunk_bytes", "max_scanned_bytes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SCANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    group: int
    start: bytes
    end: bytes
    read_ts: int
    cursor: Cursor
    chunk_bytes: int
    max_scanned_bytes: int
    def __init__(self, group: _Optional[int] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., read_ts: _Optional[int] = ..., cursor: _Optional[_Union[Cursor, _Mapping]] = ..., chunk_bytes: _Optional[int] = ..., max_scanned_bytes: _Optional[int] = ...) -> None: ...

class ExportChunk(_message.Message):
    __slots__ = ("group", "read_ts", "block", "rows", "scanned_bytes", "cursor", "done")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    READ_TS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SCANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    group: int
    read_ts: int
    block: bytes
    rows: int
    scanned_bytes: int
    cursor: Cursor
    done: bool
    def __init__(self, group: _Optional[int] = ..., read_ts: _Optional[int] = ..., block: _Optional[bytes] = ..., rows: _Optional[int] = ..., scanned_bytes: _Optional[int] = ..., cursor: _Optional[_Union[Cursor, _Mapping]] = ..., done: _Optional[bool] = ...) -> None: ...

class OwnedSpan(_message.Message):
    __slots__ = ("start", "end", "generation")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    start: bytes
    end: bytes
    generation: int
    def __init__(self, start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., generation: _Optional[int] = ...) -> None: ...

class RestoreBeginRequest(_message.Message):
    __slots__ = ("group", "restore_id", "spans")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    group: int
    restore_id: bytes
    spans: _containers.RepeatedCompositeFieldContainer[OwnedSpan]
    def __init__(self, group: _Optional[int] = ..., restore_id: _Optional[bytes] = ..., spans: _Optional[_Iterable[_Union[OwnedSpan, _Mapping]]] = ...) -> None: ...

class RestoreImportRequest(_message.Message):
    __slots__ = ("group", "restore_id", "parts")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    group: int
    restore_id: bytes
    parts: _containers.RepeatedCompositeFieldContainer[ImportPart]
    def __init__(self, group: _Optional[int] = ..., restore_id: _Optional[bytes] = ..., parts: _Optional[_Iterable[_Union[ImportPart, _Mapping]]] = ...) -> None: ...

class ImportPart(_message.Message):
    __slots__ = ("seq", "offset", "last", "block")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    seq: int
    offset: int
    last: bool
    block: bytes
    def __init__(self, seq: _Optional[int] = ..., offset: _Optional[int] = ..., last: _Optional[bool] = ..., block: _Optional[bytes] = ...) -> None: ...

class RestoreSaveRoutesRequest(_message.Message):
    __slots__ = ("restore_id", "expected_version", "version", "next_route_id", "routes")
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    restore_id: bytes
    expected_version: int
    version: int
    next_route_id: int
    routes: _containers.RepeatedCompositeFieldContainer[_distribution_pb2.RouteDescriptor]
    def __init__(self, restore_id: _Optional[bytes] = ..., expected_version: _Optional[int] = ..., version: _Optional[int] = ..., next_route_id: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[_distribution_pb2.RouteDescriptor, _Mapping]]] = ...) -> None: ...

class RestoreSaveRoutesResponse(_message.Message):
    __slots__ = ("catalog_version",)
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    catalog_version: int
    def __init__(self, catalog_version: _Optional[int] = ...) -> None: ...

class RestoreEndRequest(_message.Message):
    __slots__ = ("group", "restore_id")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    group: int
    restore_id: bytes
    def __init__(self, group: _Optional[int] = ..., restore_id: _Optional[bytes] = ...) -> None: ...

class RestoreStatusRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: int
    def __init__(self, group: _Optional[int] = ...) -> None: ...

class RestoreStatusResponse(_message.Message):
    __slots__ = ("group", "restore_id", "restoring", "seq", "rows", "max_commit_ts", "offset")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    RESTORING_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    group: int
    restore_id: bytes
    restoring: bool
    seq: int
    rows: int
    max_commit_ts: int
    offset: int
    def __init__(self, group: _Optional[int] = ..., restore_id: _Optional[bytes] = ..., restoring: _Optional[bool] = ..., seq: _Optional[int] = ..., rows: _Optional[int] = ..., max_commit_ts: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...
