from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mutation(_message.Message):
    __slots__ = ("key", "value", "delete")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    delete: bool
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., delete: _Optional[bool] = ...) -> None: ...

class BatchWriteRequest(_message.Message):
    __slots__ = ("group", "client_id", "sequence", "mutations")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    group: int
    client_id: bytes
    sequence: int
    mutations: _containers.RepeatedCompositeFieldContainer[Mutation]
    def __init__(self, group: _Optional[int] = ..., client_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., mutations: _Optional[_Iterable[_Union[Mutation, _Mapping]]] = ...) -> None: ...

class BatchWriteResponse(_message.Message):
    __slots__ = ("commit_ts", "index")
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    commit_ts: int
    index: int
    def __init__(self, commit_ts: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

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

class StreamWindowsRequest(_message.Message):
    __slots__ = ("since_us", "local_only")
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    LOCAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    since_us: int
    local_only: bool
    def __init__(self, since_us: _Optional[int] = ..., local_only: _Optional[bool] = ...) -> None: ...

class LoadWindows(_message.Message):
    __slots__ = ("node", "window_start_us", "window_end_us", "oldest_us", "rows")
    NODE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_US_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_US_FIELD_NUMBER: _ClassVar[int]
    OLDEST_US_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    node: int
    window_start_us: int
    window_end_us: int
    oldest_us: int
    rows: _containers.RepeatedCompositeFieldContainer[LoadRow]
    def __init__(self, node: _Optional[int] = ..., window_start_us: _Optional[int] = ..., window_end_us: _Optional[int] = ..., oldest_us: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[LoadRow, _Mapping]]] = ...) -> None: ...

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
