"""Restore: bring an empty cluster to the history of an export, resumable.

    read all of the export ─▶ plan ─▶ begin every group ─▶ import, one lane per group
                                      ─▶ save the routes ─▶ end every group ─▶ compare

- Nothing is changed before all of the export was read and found sound, and before the cluster
  was seen to be empty and to have the groups that the routes need.
- Every step may be repeated. The restore's id follows from the export and the cluster, and each
  group tells the number of its newest import, so the same command goes on after any end.
- An import's number always means the same rows (`restoring_parts`), also where one that was
  given up arrives late.
- The cluster serves nothing before the end: who reads it never sees a half.

Not here: restoring into a cluster that holds data, and parts of an export.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, cast

import pyarrow as pa

from workbench.errors import (
    Conflict,
    Corruption,
    InvalidArgument,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Storage,
    Unavailable,
    WorkbenchError,
)
from workbench.model.tables import VERSION
from workbench.ports.connector import Exporter, Restorer, RouteSource
from workbench.report.words import counted
from workbench.session.exporting_lanes import (
    PAUSES_S,
    Counter,
    Lanes,
    Patience,
    silent_tally,
)
from workbench.session.exporting_state import (
    exported_routes,
    find_export,
    route_name,
    version_name,
)
from workbench.session.exporting_target import telling_of_others
from workbench.session.restoring_check import Comparison
from workbench.session.restoring_parts import cut, inspect, read_part
from workbench.session.restoring_plan import TargetGroups, make_plan
from workbench.session.wiring import open_catalog, open_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from workbench.catalog.catalog import Catalog, Problem
    from workbench.model.node import RestoreStatus
    from workbench.model.routes import RouteSnapshot
    from workbench.session.exporting_lanes import Tally
    from workbench.session.exporting_state import Export
    from workbench.session.restoring_plan import GroupPlan, RestorePlan

    class Target(RouteSource, Exporter, Restorer, Protocol):
        """What is restored into: it shows its routes, takes a history and tells it again."""

    TallyProgress = Callable[[str, Tally], None]

T = TypeVar("T")
# An import of another process, or one that was given up, came between: the status tells how far.
OUT_OF_STEP: Final = "import_out_of_step"
GOES_ON: Final = "run the same command again: it goes on where this stopped"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How to restore.

    Attributes:
        mapping: Which group of the export becomes which group of the cluster, where not itself.
        resume: Only go on with a restore that has begun; never begin one.
        dry_run: Check everything, change nothing.
        check: Compare every row at the end, not only some.
        threads: Groups at once; None: one per core.
        pauses_s: Between tries that gain nothing.
    """

    mapping: Mapping[int, int] = field(default_factory=dict)
    resume: bool = False
    dry_run: bool = False
    check: bool = False
    threads: int | None = None
    pauses_s: Sequence[float] = PAUSES_S


@dataclass(frozen=True, slots=True)
class RestoreAnswer:
    """What came of a restore, or would come of it.

    Attributes:
        export: What was restored.
        plan: What was done; None where the export is damaged.
        target: URL of the cluster.
        new_rows: Rows that this run imported.
        dry_run: Nothing was changed.
        resumed: An earlier run had begun it.
        existing: An earlier run had ended it; this one only compared.
        checked: Every row was compared, not only some.
        seconds: How long this run took.
        problems: What is wrong with the export, in a dry run.
        warnings: What the user should know.
    """

    export: Export
    plan: RestorePlan | None
    target: str
    new_rows: int
    dry_run: bool
    resumed: bool
    existing: bool
    checked: bool
    seconds: float
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def rows_per_second(self) -> float | None:
        """Rate of this run; None where it imported no row."""
        return self.new_rows / self.seconds if self.new_rows and self.seconds > 0 else None


def restore_cluster(
    name: str,
    target_url: str,
    catalog_url: str,
    options: RestoreOptions,
    progress: TallyProgress = silent_tally,
) -> RestoreAnswer:
    """Restore an export into an empty cluster, or go on with that.

    Args:
        name: Of a complete export.
        target_url: Of the cluster.
        catalog_url: Where the catalog is.
        options: How.
        progress: Is told how far it is.

    Raises:
        NotFound: `catalog_absent`, `export_absent`; `restore_absent` with nothing to resume.
        InvalidArgument: the URL or the mapping; `restore_unsupported`.
        InvalidInput: `export_incomplete`, `export_format_unknown`, `groups_missing`,
            `catalog_group_moved`.
        Corruption: the export is damaged, with the object's key; nothing was changed. Or
            `restored_rows_differ`.
        Conflict: `target_not_empty`, `restore_other`.
        Unavailable, OutcomeUnknown: the cluster does not answer; the same command goes on.
    """
    started = monotonic()
    catalog = open_catalog(catalog_url)
    export = find_export(catalog, name)
    if not export.complete:
        raise InvalidInput(
            f"export {name!r} is not complete: {sum(s.done for s in export.groups.values())} of "
            f"{counted(len(export.groups), 'group is', 'groups are')}",
            code="export_incomplete",
            hint=f"go on with it: workbench export --resume {name} --target {export.source}",
        )
    routes = exported_routes(catalog, export)
    with telling_of_others(target_url):
        target = open_restorer(target_url)
    try:
        run = _Run(catalog, export, routes, target, target_url, options)
        return replace(run.work(progress), seconds=monotonic() - started)
    finally:
        target.close()


def open_restorer(url: str) -> Target:
    """Open a system that takes a history; InvalidArgument (`restore_unsupported`) for another."""
    target = open_routes(url, allow_write=True)
    can = target.capabilities()
    able = isinstance(target, Restorer) and isinstance(target, Exporter)
    if not able or not (can.restore and can.export):
        target.close()
        raise InvalidArgument(
            f"the connector for {url!r} cannot restore",
            code="restore_unsupported",
            hint="name a cluster of bundled nodes, as node://HOST:PORT; the export is Parquet, "
            "for other systems' own loaders",
        )
    return cast("Target", target)


class _Run:
    """One run of one restore."""

    def __init__(  # noqa: PLR0913, PLR0917 - one call, from restore_cluster
        self,
        catalog: Catalog,
        export: Export,
        routes: RouteSnapshot,
        target: Target,
        target_url: str,
        options: RestoreOptions,
    ) -> None:
        self._store = catalog.store
        self._export = export
        self._routes = routes
        self._target = target
        self._url = target_url
        self._options = options
        self._lanes = Lanes(options.threads)
        self._counter = Counter(0)

    def work(self, progress: TallyProgress) -> RestoreAnswer:
        """Do all of it, and return what came of it; seconds are left open."""
        options = self._options
        with telling_of_others(self._url):
            target = TargetGroups(self._target.groups(), self._target.snapshot())
        found = inspect(
            self._store, self._export, self._routes, threads=options.threads, progress=progress
        )
        answer = RestoreAnswer(
            export=self._export,
            plan=None,
            target=self._url,
            new_rows=0,
            dry_run=options.dry_run,
            resumed=False,
            existing=False,
            checked=False,
            seconds=0.0,
            problems=found.problems,
        )
        if found.problems and options.dry_run:
            return answer
        if found.problems:
            raise _damaged(self._export, found.problems)
        plan = make_plan(self._export, self._routes, found.parts, target, options.mapping)
        status = {g.group: self._target.restore_status(g.group) for g in plan.groups}
        resumed, ended = self._look(plan, status)
        answer = replace(answer, plan=plan, resumed=resumed, existing=ended, warnings=plan.warnings)
        if options.dry_run:
            return answer
        if not ended:
            self._restore(plan, status, progress)
        checked = self._compare(plan, progress)
        return replace(answer, new_rows=self._imported(plan, status), checked=checked)

    def _look(self, plan: RestorePlan, status: Mapping[int, RestoreStatus]) -> tuple[bool, bool]:
        """Return whether this restore has begun, and whether it has ended.

        Raises:
            Conflict: another restore runs, or the cluster is not empty.
            NotFound: nothing has begun that could be resumed.
        """
        mine = [each for each in status.values() if each.restore_id == plan.restore_id]
        if mine:
            return True, len(mine) == len(status) and not any(each.restoring for each in mine)
        for each in status.values():
            if each.restoring:
                raise Conflict(
                    f"group {each.group} of {self._url} is being restored by another restore, "
                    f"{each.restore_id.hex()}, with {counted(each.rows, 'row')} so far",
                    code="restore_other",
                    hint="go on with that one (its export, and its --map-group), or take an "
                    "empty cluster",
                )
        if self._options.resume:
            raise NotFound(
                f"no restore of export {self._export.name!r} into {self._url} has begun",
                code="restore_absent",
                hint="leave --resume out to begin one",
            )
        self._check_empty(plan)
        return False, False

    def _check_empty(self, plan: RestorePlan) -> None:
        """Raise Conflict where the cluster holds a version of any key."""
        now = self._target.timestamp()
        for group in plan.groups:
            for chunk in self._target.export(group.group, now):
                if chunk.table.num_rows:
                    raise Conflict(
                        f"{self._url} is not empty: group {group.group} holds data",
                        code="target_not_empty",
                        hint="make a new cluster, as with `workbench cluster up --dir NEW`; a "
                        "restore never overwrites",
                    )

    def _restore(
        self, plan: RestorePlan, status: Mapping[int, RestoreStatus], progress: TallyProgress
    ) -> None:
        try:
            for group in plan.groups:
                if status[group.group].restore_id != plan.restore_id:
                    self._steadily(
                        partial(
                            self._target.restore_begin, group.group, plan.restore_id, group.spans
                        )
                    )
            self._import_all(plan, progress)
            self._save_routes(plan)
            # The catalog's group last: before that nobody can change the routes.
            for group in sorted(plan.groups, key=lambda each: each.keeps_catalog):
                self._steadily(partial(self._target.restore_end, group.group, plan.restore_id))
        except (Unavailable, OutcomeUnknown, Storage) as error:
            error.hint = f"{error.hint}; {GOES_ON}" if error.hint else GOES_ON
            raise

    def _import_all(self, plan: RestorePlan, progress: TallyProgress) -> None:
        self._counter = Counter(len(plan.groups))

        def tick() -> None:
            progress("importing", self._counter.tally())

        jobs = [partial(self._import, group, plan.restore_id) for group in plan.groups]
        self._lanes.run(jobs, tick, self._target.close)
        tick()

    def _import(self, group: GroupPlan, restore_id: bytes) -> None:
        """Bring one group to its last import, through whatever passes."""
        patience = Patience(self._lanes, self._options.pauses_s)
        status = self._steadily(partial(self._target.restore_status, group.group))
        while status.restoring and status.seq < group.tables:
            before = status
            feed = _Feed(self._tables(group, before.seq))
            failure: WorkbenchError | None = None
            try:
                self._target.import_rows(group.group, restore_id, feed, seq=before.seq + 1)
            except (Unavailable, OutcomeUnknown) as error:
                failure = error
            except Conflict as error:
                if error.code != OUT_OF_STEP:
                    raise
                failure = error
            feed.check()
            status = self._steadily(partial(self._target.restore_status, group.group))
            if (status.seq, status.rows) > (before.seq, before.rows):
                patience.gained()
            elif status.seq < group.tables:
                patience.wait(_as_retryable(group.group, failure))
        if status.rows != group.rows or status.seq != group.tables:
            raise Corruption(
                f"group {group.group} of {self._url} has taken {counted(status.rows, 'row')} in "
                f"{counted(status.seq, 'import')}, not {group.rows} in {group.tables}",
                code="restore_rows_differ",
                hint="restore into a new cluster, and report this",
            )
        self._counter.add(groups_done=1)

    def _tables(self, group: GroupPlan, seq: int) -> Iterator[pa.Table]:
        """Yield the tables of a group behind number `seq`, as they are imported."""
        passed = 0
        for part in group.parts:
            if passed + part.tables <= seq:
                passed += part.tables
                continue
            rows = read_part(self._store, self._export.manifest, part.ref)
            if part.group != group.group:
                at = VERSION.get_field_index("group")
                number = pa.repeat(pa.scalar(group.group, pa.uint64()), rows.num_rows)
                rows = rows.set_column(at, VERSION.field("group"), number)
            for table in cut(rows):
                self._lanes.look()
                passed += 1
                if passed > seq:
                    yield table
                    self._counter.add(table.num_rows, table.nbytes)

    def _save_routes(self, plan: RestorePlan) -> None:
        """Give the cluster the routes; looks before it does, and after what stays open."""

        def save() -> int:
            now = self._target.snapshot()
            if (now.catalog_version, now.routes) == (
                plan.snapshot.catalog_version,
                plan.snapshot.routes,
            ):
                return now.catalog_version
            return self._target.save_routes(
                plan.restore_id, plan.snapshot, expected_version=now.catalog_version
            )

        self._steadily(save)

    def _steadily(self, step: Callable[[], T]) -> T:
        """Take a step that may be repeated, through whatever passes."""
        patience = Patience(self._lanes, self._options.pauses_s)
        while True:
            try:
                return step()
            except Unavailable as error:
                patience.wait(error)
            except OutcomeUnknown as error:
                patience.wait(_as_retryable(None, error))

    def _compare(self, plan: RestorePlan, progress: TallyProgress) -> bool:
        """Read what the cluster serves now, and compare it with the export."""
        self._counter = Counter(len(plan.groups))
        comparison = Comparison(
            self._store,
            self._export.manifest,
            self._routes,
            self._target,
            self._export.read_ts,
        )
        compare = comparison.whole if self._options.check else comparison.sample

        def tick() -> None:
            progress("comparing", self._counter.tally())

        jobs = [partial(compare, group, self._lanes, self._counter) for group in plan.groups]
        self._lanes.run(jobs, tick, self._target.close)
        tick()
        return self._options.check

    @staticmethod
    def _imported(plan: RestorePlan, status: Mapping[int, RestoreStatus]) -> int:
        before = (each.rows for each in status.values() if each.restore_id == plan.restore_id)
        return plan.rows - sum(before)


class _Feed:
    """Tables for an import: an error of theirs ends the stream, and is raised by `check`.

    A connector may read them in a thread of its own, where an error would be lost.
    """

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        try:
            yield from self._tables
        except Exception as error:  # noqa: BLE001 - kept, and raised by `check`
            self._failure = error

    def check(self) -> None:
        """Raise what the tables failed with."""
        if self._failure is not None:
            raise self._failure


def _as_retryable(group: int | None, failure: WorkbenchError | None) -> WorkbenchError:
    """Return the error of a try after which one may look and try again."""
    if failure is None:
        return Unavailable(
            f"group {group} took no import, and gave no reason",
            code="import_not_taken",
            hint="see the log of its node",
        )
    failure.retryable = True
    return failure


def _damaged(export: Export, problems: Sequence[Problem]) -> Corruption:
    others = counted(len(problems) - 1, "more object is", "more objects are")
    more = f"; {others} damaged" if len(problems) > 1 else ""
    return Corruption(
        f"export {export.name!r} cannot be restored: {problems[0].key}: {problems[0].reason}{more}",
        code="export_damaged",
        hint="--dry-run lists all damage; export again under another name, or take another "
        f"export; this one is datasets {version_name(export.name)} and {route_name(export.name)}",
    )
