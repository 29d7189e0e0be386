from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RouteState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_STATE_UNSPECIFIED: _ClassVar[RouteState]
    ROUTE_STATE_ACTIVE: _ClassVar[RouteState]
    ROUTE_STATE_WRITE_FENCED: _ClassVar[RouteState]
    ROUTE_STATE_MIGRATING_SOURCE: _ClassVar[RouteState]
    ROUTE_STATE_MIGRATING_TARGET: _ClassVar[RouteState]

class CatalogDeltaMutationOp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CATALOG_DELTA_MUTATION_OP_UNSPECIFIED: _ClassVar[CatalogDeltaMutationOp]
    CATALOG_DELTA_MUTATION_OP_UPSERT: _ClassVar[CatalogDeltaMutationOp]
    CATALOG_DELTA_MUTATION_OP_DELETE: _ClassVar[CatalogDeltaMutationOp]

class SplitJobPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_JOB_PHASE_NONE: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_PLANNED: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_BACKFILL: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_FENCE: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_DELTA_COPY: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_CUTOVER: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_CLEANUP: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_DONE: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_FAILED: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_ABANDONING: _ClassVar[SplitJobPhase]
    SPLIT_JOB_PHASE_ABANDONED: _ClassVar[SplitJobPhase]

class SplitJobExportPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_JOB_EXPORT_PHASE_NONE: _ClassVar[SplitJobExportPhase]
    SPLIT_JOB_EXPORT_PHASE_BACKFILL: _ClassVar[SplitJobExportPhase]
    SPLIT_JOB_EXPORT_PHASE_DELTA_COPY: _ClassVar[SplitJobExportPhase]
ROUTE_STATE_UNSPECIFIED: RouteState
ROUTE_STATE_ACTIVE: RouteState
ROUTE_STATE_WRITE_FENCED: RouteState
ROUTE_STATE_MIGRATING_SOURCE: RouteState
ROUTE_STATE_MIGRATING_TARGET: RouteState
CATALOG_DELTA_MUTATION_OP_UNSPECIFIED: CatalogDeltaMutationOp
CATALOG_DELTA_MUTATION_OP_UPSERT: CatalogDeltaMutationOp
CATALOG_DELTA_MUTATION_OP_DELETE: CatalogDeltaMutationOp
SPLIT_JOB_PHASE_NONE: SplitJobPhase
SPLIT_JOB_PHASE_PLANNED: SplitJobPhase
SPLIT_JOB_PHASE_BACKFILL: SplitJobPhase
SPLIT_JOB_PHASE_FENCE: SplitJobPhase
SPLIT_JOB_PHASE_DELTA_COPY: SplitJobPhase
SPLIT_JOB_PHASE_CUTOVER: SplitJobPhase
SPLIT_JOB_PHASE_CLEANUP: SplitJobPhase
SPLIT_JOB_PHASE_DONE: SplitJobPhase
SPLIT_JOB_PHASE_FAILED: SplitJobPhase
SPLIT_JOB_PHASE_ABANDONING: SplitJobPhase
SPLIT_JOB_PHASE_ABANDONED: SplitJobPhase
SPLIT_JOB_EXPORT_PHASE_NONE: SplitJobExportPhase
SPLIT_JOB_EXPORT_PHASE_BACKFILL: SplitJobExportPhase
SPLIT_JOB_EXPORT_PHASE_DELTA_COPY: SplitJobExportPhase

class RouteDescriptor(_message.Message):
    __slots__ = ("route_id", "start", "end", "raft_group_id", "state", "parent_route_id", "split_at_hlc")
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RAFT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARENT_ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_AT_HLC_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    start: bytes
    end: bytes
    raft_group_id: int
    state: RouteState
    parent_route_id: int
    split_at_hlc: int
    def __init__(self, route_id: _Optional[int] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., raft_group_id: _Optional[int] = ..., state: _Optional[_Union[RouteState, str]] = ..., parent_route_id: _Optional[int] = ..., split_at_hlc: _Optional[int] = ...) -> None: ...

class GetRouteRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class GetRouteResponse(_message.Message):
    __slots__ = ("start", "end", "raft_group_id")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RAFT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    start: bytes
    end: bytes
    raft_group_id: int
    def __init__(self, start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., raft_group_id: _Optional[int] = ...) -> None: ...

class GetTimestampRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTimestampResponse(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class ListRoutesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRoutesResponse(_message.Message):
    __slots__ = ("catalog_version", "routes")
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    catalog_version: int
    routes: _containers.RepeatedCompositeFieldContainer[RouteDescriptor]
    def __init__(self, catalog_version: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[RouteDescriptor, _Mapping]]] = ...) -> None: ...

class SplitRangeRequest(_message.Message):
    __slots__ = ("expected_catalog_version", "route_id", "split_key")
    EXPECTED_CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_KEY_FIELD_NUMBER: _ClassVar[int]
    expected_catalog_version: int
    route_id: int
    split_key: bytes
    def __init__(self, expected_catalog_version: _Optional[int] = ..., route_id: _Optional[int] = ..., split_key: _Optional[bytes] = ...) -> None: ...

class SplitRangeResponse(_message.Message):
    __slots__ = ("catalog_version", "left", "right")
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    catalog_version: int
    left: RouteDescriptor
    right: RouteDescriptor
    def __init__(self, catalog_version: _Optional[int] = ..., left: _Optional[_Union[RouteDescriptor, _Mapping]] = ..., right: _Optional[_Union[RouteDescriptor, _Mapping]] = ...) -> None: ...

class CatalogCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CatalogCapabilitiesResponse(_message.Message):
    __slots__ = ("supported_protocol_versions", "current_version", "oldest_delta_version", "max_batch_size")
    SUPPORTED_PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_DELTA_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    supported_protocol_versions: _containers.RepeatedScalarFieldContainer[int]
    current_version: int
    oldest_delta_version: int
    max_batch_size: int
    def __init__(self, supported_protocol_versions: _Optional[_Iterable[int]] = ..., current_version: _Optional[int] = ..., oldest_delta_version: _Optional[int] = ..., max_batch_size: _Optional[int] = ...) -> None: ...

class CatalogWatchRequest(_message.Message):
    __slots__ = ("protocol_version", "after_version", "max_batch_size")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    after_version: int
    max_batch_size: int
    def __init__(self, protocol_version: _Optional[int] = ..., after_version: _Optional[int] = ..., max_batch_size: _Optional[int] = ...) -> None: ...

class CatalogWatchEvent(_message.Message):
    __slots__ = ("snapshot", "delta")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    snapshot: CatalogSnapshotReset
    delta: CatalogDeltaRecord
    def __init__(self, snapshot: _Optional[_Union[CatalogSnapshotReset, _Mapping]] = ..., delta: _Optional[_Union[CatalogDeltaRecord, _Mapping]] = ...) -> None: ...

class CatalogSnapshotReset(_message.Message):
    __slots__ = ("version", "routes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    version: int
    routes: _containers.RepeatedCompositeFieldContainer[RouteDescriptor]
    def __init__(self, version: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[RouteDescriptor, _Mapping]]] = ...) -> None: ...

class CatalogDeltaRecord(_message.Message):
    __slots__ = ("previous_version", "version", "mutations")
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    previous_version: int
    version: int
    mutations: _containers.RepeatedCompositeFieldContainer[CatalogDeltaMutation]
    def __init__(self, previous_version: _Optional[int] = ..., version: _Optional[int] = ..., mutations: _Optional[_Iterable[_Union[CatalogDeltaMutation, _Mapping]]] = ...) -> None: ...

class CatalogDeltaMutation(_message.Message):
    __slots__ = ("op", "route_id", "route")
    OP_FIELD_NUMBER: _ClassVar[int]
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    op: CatalogDeltaMutationOp
    route_id: int
    route: RouteDescriptor
    def __init__(self, op: _Optional[_Union[CatalogDeltaMutationOp, str]] = ..., route_id: _Optional[int] = ..., route: _Optional[_Union[RouteDescriptor, _Mapping]] = ...) -> None: ...

class GetRouteOwnershipRequest(_message.Message):
    __slots__ = ("key", "catalog_version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    catalog_version: int
    def __init__(self, key: _Optional[bytes] = ..., catalog_version: _Optional[int] = ...) -> None: ...

class GetRouteOwnershipResponse(_message.Message):
    __slots__ = ("route", "catalog_version", "found")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    route: RouteDescriptor
    catalog_version: int
    found: bool
    def __init__(self, route: _Optional[_Union[RouteDescriptor, _Mapping]] = ..., catalog_version: _Optional[int] = ..., found: _Optional[bool] = ...) -> None: ...

class GetIntersectingRoutesRequest(_message.Message):
    __slots__ = ("start", "end", "catalog_version")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    start: bytes
    end: bytes
    catalog_version: int
    def __init__(self, start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., catalog_version: _Optional[int] = ...) -> None: ...

class GetIntersectingRoutesResponse(_message.Message):
    __slots__ = ("routes", "catalog_version")
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[RouteDescriptor]
    catalog_version: int
    def __init__(self, routes: _Optional[_Iterable[_Union[RouteDescriptor, _Mapping]]] = ..., catalog_version: _Optional[int] = ...) -> None: ...

class StartSplitMigrationRequest(_message.Message):
    __slots__ = ("expected_catalog_version", "route_id", "split_key", "target_group_id", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXPECTED_CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_KEY_FIELD_NUMBER: _ClassVar[int]
    TARGET_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    expected_catalog_version: int
    route_id: int
    split_key: bytes
    target_group_id: int
    options: _containers.ScalarMap[str, str]
    def __init__(self, expected_catalog_version: _Optional[int] = ..., route_id: _Optional[int] = ..., split_key: _Optional[bytes] = ..., target_group_id: _Optional[int] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class StartSplitMigrationResponse(_message.Message):
    __slots__ = ("catalog_version", "job_id")
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    catalog_version: int
    job_id: int
    def __init__(self, catalog_version: _Optional[int] = ..., job_id: _Optional[int] = ...) -> None: ...

class SplitJobBracketProgress(_message.Message):
    __slots__ = ("bracket_id", "family", "export_phase", "cursor", "done", "scanned_bytes", "accepted_rows", "last_acked_batch_seq")
    BRACKET_ID_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    EXPORT_PHASE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    SCANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_ACKED_BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    bracket_id: int
    family: int
    export_phase: SplitJobExportPhase
    cursor: bytes
    done: bool
    scanned_bytes: int
    accepted_rows: int
    last_acked_batch_seq: int
    def __init__(self, bracket_id: _Optional[int] = ..., family: _Optional[int] = ..., export_phase: _Optional[_Union[SplitJobExportPhase, str]] = ..., cursor: _Optional[bytes] = ..., done: _Optional[bool] = ..., scanned_bytes: _Optional[int] = ..., accepted_rows: _Optional[int] = ..., last_acked_batch_seq: _Optional[int] = ...) -> None: ...

class SplitJob(_message.Message):
    __slots__ = ("job_id", "source_route_id", "split_key", "target_group_id", "phase", "retry_phase", "abandon_from_phase", "snapshot_ts", "fence_ts", "cutover_version", "cursor", "max_imported_ts", "bracket_progress", "last_error", "started_at_ms", "updated_at_ms", "terminal_at_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_KEY_FIELD_NUMBER: _ClassVar[int]
    TARGET_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RETRY_PHASE_FIELD_NUMBER: _ClassVar[int]
    ABANDON_FROM_PHASE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TS_FIELD_NUMBER: _ClassVar[int]
    FENCE_TS_FIELD_NUMBER: _ClassVar[int]
    CUTOVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    MAX_IMPORTED_TS_FIELD_NUMBER: _ClassVar[int]
    BRACKET_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_AT_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    source_route_id: int
    split_key: bytes
    target_group_id: int
    phase: SplitJobPhase
    retry_phase: SplitJobPhase
    abandon_from_phase: SplitJobPhase
    snapshot_ts: int
    fence_ts: int
    cutover_version: int
    cursor: bytes
    max_imported_ts: int
    bracket_progress: _containers.RepeatedCompositeFieldContainer[SplitJobBracketProgress]
    last_error: str
    started_at_ms: int
    updated_at_ms: int
    terminal_at_ms: int
    def __init__(self, job_id: _Optional[int] = ..., source_route_id: _Optional[int] = ..., split_key: _Optional[bytes] = ..., target_group_id: _Optional[int] = ..., phase: _Optional[_Union[SplitJobPhase, str]] = ..., retry_phase: _Optional[_Union[SplitJobPhase, str]] = ..., abandon_from_phase: _Optional[_Union[SplitJobPhase, str]] = ..., snapshot_ts: _Optional[int] = ..., fence_ts: _Optional[int] = ..., cutover_version: _Optional[int] = ..., cursor: _Optional[bytes] = ..., max_imported_ts: _Optional[int] = ..., bracket_progress: _Optional[_Iterable[_Union[SplitJobBracketProgress, _Mapping]]] = ..., last_error: _Optional[str] = ..., started_at_ms: _Optional[int] = ..., updated_at_ms: _Optional[int] = ..., terminal_at_ms: _Optional[int] = ...) -> None: ...

class GetSplitJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    def __init__(self, job_id: _Optional[int] = ...) -> None: ...

class GetSplitJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: SplitJob
    def __init__(self, job: _Optional[_Union[SplitJob, _Mapping]] = ...) -> None: ...

class ListSplitJobsRequest(_message.Message):
    __slots__ = ("since_terminal_at_ms", "phase", "page_cursor")
    SINCE_TERMINAL_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PAGE_CURSOR_FIELD_NUMBER: _ClassVar[int]
    since_terminal_at_ms: int
    phase: str
    page_cursor: bytes
    def __init__(self, since_terminal_at_ms: _Optional[int] = ..., phase: _Optional[str] = ..., page_cursor: _Optional[bytes] = ...) -> None: ...

class ListSplitJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_cursor")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_CURSOR_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[SplitJob]
    next_page_cursor: bytes
    def __init__(self, jobs: _Optional[_Iterable[_Union[SplitJob, _Mapping]]] = ..., next_page_cursor: _Optional[bytes] = ...) -> None: ...

class AbandonSplitJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    def __init__(self, job_id: _Optional[int] = ...) -> None: ...

class AbandonSplitJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetrySplitJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    def __init__(self, job_id: _Optional[int] = ...) -> None: ...

class RetrySplitJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchJobsRequest(_message.Message):
    __slots__ = ("after_revision",)
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    after_revision: int
    def __init__(self, after_revision: _Optional[int] = ...) -> None: ...
