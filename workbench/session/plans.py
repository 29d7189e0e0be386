"""Plans at rest: in the catalog as `plan/<plan_id>`, or in a file as JSON or Parquet.

Whatever form a plan is read from, its content is hashed anew and must give the hash it
carries. A plan is named by a prefix of that hash, or by its file.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.catalog.catalog import Write
from workbench.errors import Corruption, InvalidArgument, InvalidInput, NotFound
from workbench.model.plan import ActionKind, plan_from_json, plan_to_json
from workbench.model.tables import PLAN, check_table
from workbench.model.times import rfc3339
from workbench.session.files import read_file, write_file

if TYPE_CHECKING:
    from workbench.catalog.catalog import Catalog
    from workbench.model.manifest import Manifest
    from workbench.model.plan import Plan

PLAN_PREFIX: Final = "plan/"
PREFIX_DIGITS_MIN: Final = 4
FILE_BYTES_MAX: Final = 256 * 2**20
_HEX = re.compile(rf"[0-9a-f]{{{PREFIX_DIGITS_MIN},64}}")


def record_plan(catalog: Catalog, plan: Plan) -> bool:
    """Write the plan into the catalog; False where it is its cluster's newest already.

    One that is there, but not the newest, was asked for again: its property `asked` counts that,
    so that it becomes the newest by `updated_at`. Its document stays as it is.
    """
    made = newest_first(catalog, plan.cluster)
    write = plan_write(plan)
    again = [each for each in made[1:] if each.name == write.name]
    if again:
        asked = int(again[0].properties.get("asked", "1")) + 1
        write = replace(write, properties={**write.properties, "asked": str(asked)})
    elif made and made[0].name == write.name:
        return False
    [registered] = catalog.commit([write])
    return registered.written


def newest_first(catalog: Catalog, cluster: str) -> list[Manifest]:
    """Return the plans of a cluster as the catalog knows them, the last asked for first."""
    made = [m for m in catalog.list(PLAN_PREFIX) if m.properties.get("cluster") == cluster]
    return sorted(made, key=lambda each: (each.updated_at, each.name), reverse=True)


def plan_write(plan: Plan) -> Write:
    """Return the plan as it is written into a catalog; its properties tell what it is."""
    moves = sum(action.kind is ActionKind.MOVE for action in plan.actions)
    properties = {
        "cluster": plan.cluster,
        "splits": str(len(plan.actions) - moves),
        **({"moves": str(moves)} if moves else {}),
        "hottest_route": f"{plan.max_share_before:.1%} to {plan.max_share_after:.1%}",
        "window": f"{rfc3339(plan.since)} to {rfc3339(plan.until)}",
    }
    return Write(PLAN_PREFIX + plan.plan_id, plan_to_table(plan), properties=properties)


def resolve_plan(catalog: Catalog | None, reference: str) -> Plan:
    """Return the plan that `reference` names: a file, or a prefix of the content hash.

    Raises:
        InvalidArgument: neither a file nor hex digits, or a prefix of several plans.
        NotFound: no plan in the catalog has this prefix, or there is no such file.
        Corruption: the content does not give the hash it carries.
    """
    path = Path(reference)
    reference = reference.lower() if _HEX.fullmatch(reference.lower()) else reference
    if path.suffix in {".json", ".parquet"} or path.is_file():
        return plan_from_file(path)
    if not _HEX.fullmatch(reference):
        raise InvalidArgument(
            f"{reference!r} names no plan",
            code="plan_reference_invalid",
            hint=f"give at least {PREFIX_DIGITS_MIN} digits of its id, or a .json or .parquet file",
        )
    if catalog is None:
        raise NotFound(
            f"plan {reference!r} is no file, and there is no catalog to look in",
            code="plan_absent",
            hint="name a catalog with --catalog",
        )
    names = [m.name for m in catalog.list(PLAN_PREFIX) if _matches(m.name, reference)]
    if not names:
        raise NotFound(
            f"no plan in the catalog starts with {reference!r}",
            code="plan_absent",
            hint="`workbench catalog ls --prefix plan/` lists them",
        )
    if len(names) > 1:
        raise InvalidArgument(
            f"{len(names)} plans start with {reference!r}: {', '.join(names[:4])}",
            code="plan_reference_ambiguous",
            hint="give more digits",
        )
    plan = plan_from_table(catalog.read(names[0]), names[0])
    if not plan.content_hash.startswith(reference):
        raise NotFound(
            f"plan {plan.plan_id} does not start with {reference!r}",
            code="plan_absent",
            hint="check the digits",
        )
    return plan


def _matches(name: str, reference: str) -> bool:
    """Tell whether a dataset's name and a hash prefix, either of which may be longer, agree."""
    plan_id = name.removeprefix(PLAN_PREFIX)
    return plan_id.startswith(reference) or reference.startswith(plan_id)


def plan_from_file(path: Path) -> Plan:
    """Return the plan in a JSON or Parquet file."""
    content = read_file(path, bytes_max=FILE_BYTES_MAX)
    if content[:4] == b"PAR1":
        try:
            table = pq.read_table(pa.BufferReader(content))
        except (pa.ArrowInvalid, OSError) as error:
            raise Corruption(
                f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}",
                code="plan_unreadable",
                hint="make the plan anew with `workbench plan`",
            ) from error
        return plan_from_table(table, str(path))
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path} is not JSON: {error}",
            code="plan_unreadable",
            hint="make a plan with `workbench plan --out FILE`",
        ) from error
    return plan_from_json(document, str(path))


def plan_to_file(plan: Plan, path: Path) -> None:
    """Write the plan as Parquet where the name ends so, as JSON otherwise."""
    write_file(path, plan_bytes(plan, parquet=path.suffix == ".parquet"))


def plan_bytes(plan: Plan, *, parquet: bool) -> bytes:
    """Return the bytes of a plan file."""
    if not parquet:
        return (json.dumps(plan_to_json(plan), indent=2) + "\n").encode()
    sink = io.BytesIO()
    pq.write_table(plan_to_table(plan), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def plan_to_table(plan: Plan) -> pa.Table:
    """Return the plan as one row of the `plan` table."""
    document = plan_to_json(plan)
    row = {
        "plan_id": plan.plan_id,
        "content_hash": plan.content_hash,
        "cluster": plan.cluster,
        "catalog_version": plan.catalog_version,
        "objective": plan.objective.name,
        "window_from": plan.since,
        "window_to": plan.until,
        "max_share_before": plan.max_share_before,
        "max_share_after": plan.max_share_after,
        "actions": [
            {
                "id": action.action_id,
                "kind": action.kind.value,
                "route_id": action.route_id,
                "start": action.span.start,
                "end": action.span.end,
                "split_key": action.split_key,
                "expected_version": action.expected_version,
                "parent_load": action.evidence.parent_load,
                "left_load": action.evidence.left_load,
                "right_load": action.evidence.right_load,
            }
            for action in plan.actions
        ],
        "document": json.dumps(document, sort_keys=True, separators=(",", ":")),
    }
    return pa.Table.from_pylist([row], schema=PLAN)


def plan_from_table(table: pa.Table, where: str) -> Plan:
    """Return the plan in a `plan` table of one row; its columns must agree with its document."""
    checked = check_table(table, PLAN, where)
    if checked.num_rows != 1:
        raise InvalidInput(
            f"{where} holds {checked.num_rows} plans, not one",
            code="plan_unreadable",
            hint="make the plan anew with `workbench plan`",
        )
    try:
        document = json.loads(checked.column("document")[0].as_py())
    except (ValueError, RecursionError) as error:
        raise Corruption(
            f"{where} holds a document that is not JSON: {error}",
            code="plan_unreadable",
            hint="make the plan anew with `workbench plan`",
        ) from error
    plan = plan_from_json(document, where)
    if not plan_to_table(plan).equals(checked):
        raise Corruption(
            f"{where} has columns that differ from its document",
            code="plan_hash_mismatch",
            hint="the plan was changed after it was made; make it anew with `workbench plan`",
        )
    return plan
