"""Claims about receipts and the jobs that they make, and their documented columns."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from fakes import NOON, FakeCluster, catalog_with, plan_for

from workbench.catalog.catalog import Catalog, Write
from workbench.errors import Conflict, InvalidArgument, InvalidInput, NotFound
from workbench.model.tables import LEASE, RECEIPT
from workbench.session.receipts import (
    Applied,
    Receipt,
    ReceiptBook,
    ReceiptStatus,
    applied_of,
    find_jobs,
    list_jobs,
    read_receipts,
)
from workbench.stores.memory import MemoryStore

if TYPE_CHECKING:
    from workbench.model.plan import Plan

TABLES = Path(__file__).resolve().parents[2] / "docs/formats/tables.md"


def receipt(plan: Plan, index: int, *, minute: int = 0, **changes: object) -> Receipt:
    action = plan.actions[index]
    at = NOON + timedelta(minutes=minute)
    made = Receipt(
        cluster=plan.cluster,
        plan_id=plan.plan_id,
        content_hash=plan.content_hash,
        action_id=action.action_id,
        kind=action.kind.value,
        request_id="r",
        route_id=action.route_id,
        span=action.span,
        split_key=action.split_key,
        source_group=1,
        target_group=None,
        expected_version=action.expected_version,
        status=ReceiptStatus.APPLIED,
        repeated=False,
        catalog_version=action.expected_version + 1,
        left_route_id=4,
        right_route_id=5,
        error=None,
        by="user:anna",
        started_at=at,
        updated_at=at + timedelta(seconds=2),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def failure(plan: Plan, index: int, minute: int = 0) -> Receipt:
    return receipt(
        plan,
        index,
        minute=minute,
        status=ReceiptStatus.FAILED,
        catalog_version=None,
        left_route_id=None,
        right_route_id=None,
        error="refused",
    )


def given(splits: int = 3) -> tuple[Catalog, Plan]:
    plan = plan_for(FakeCluster(), splits=splits)
    return catalog_with(MemoryStore(), plan), plan


@pytest.mark.parametrize(
    ("heading", "schema"), [("receipt/<plan_id>", RECEIPT), ("lease/<cluster>", LEASE)]
)
def test_the_documented_columns_are_the_schema(heading: str, schema: pa.Schema) -> None:
    section = TABLES.read_text().partition(f"## `{heading}`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| (yes)?", section, re.MULTILINE)[1:]
    documented = [(name, kind.strip(), bool(null)) for name, kind, null in rows]
    assert documented == [(f.name, str(f.type), f.nullable) for f in schema]


def test_what_is_read_is_what_was_kept_and_the_newest_counts() -> None:
    catalog, plan = given()
    book = ReceiptBook(catalog, plan)
    kept = [failure(plan, 0), receipt(plan, 0, minute=1), receipt(plan, 1, minute=2)]
    for each in kept:
        book.append(each)
    assert read_receipts(catalog, plan.plan_id) == kept
    assert list(book.newest.values()) == kept[1:]
    assert book.applied == {"split-001", "split-002"}
    assert ReceiptBook(catalog, plan).newest == book.newest
    assert kept[1].seconds == 2.0


def test_two_who_write_receipts_of_one_plan_cannot_both_go_on() -> None:
    catalog, plan = given()
    one, other = ReceiptBook(catalog, plan), ReceiptBook(catalog, plan)
    one.append(receipt(plan, 0))
    with pytest.raises(Conflict) as caught:
        other.append(receipt(plan, 0, by="user:bert"))
    assert caught.value.code == "lease_lost"
    assert [each.by for each in read_receipts(catalog, plan.plan_id)] == ["user:anna"]
    assert other.applied == frozenset()


def test_receipts_under_another_hash_do_not_count_for_the_plan() -> None:
    catalog, plan = given()
    book = ReceiptBook(catalog, plan)
    book.append(receipt(plan, 0, content_hash="0" * 64))
    assert book.applied == frozenset()
    assert applied_of(catalog, plan) == Applied(0, None)


def test_applied_counts_what_took_effect_up_to_the_end_of_the_last_call() -> None:
    catalog, plan = given()
    assert applied_of(catalog, plan) == Applied(0, None)
    book = ReceiptBook(catalog, plan)
    book.append(receipt(plan, 0, minute=5))
    book.append(receipt(plan, 1, minute=3))
    book.append(failure(plan, 2, minute=9))
    assert applied_of(catalog, plan) == Applied(2, NOON + timedelta(minutes=5, seconds=2))
    book.append(receipt(plan, 2, minute=10))
    book.append(receipt(plan, 2, minute=11, action_id="split-999"))
    assert applied_of(catalog, plan) == Applied(3, NOON + timedelta(minutes=10, seconds=2))


def test_jobs_are_the_newest_tries_newest_first_of_the_cluster_or_plan_asked_for() -> None:
    catalog, plan = given()
    other = plan_for(FakeCluster(), splits=1)
    book, second = ReceiptBook(catalog, plan), ReceiptBook(catalog, other)
    book.append(failure(plan, 0))
    book.append(receipt(plan, 0, minute=1))
    book.append(receipt(plan, 1, minute=2))
    second.append(receipt(other, 0, minute=1, cluster="d", started_at=NOON, updated_at=NOON))
    listed = [job.job_id for job in list_jobs(catalog)]
    assert listed == [
        f"{plan.plan_id}/split-002",
        f"{plan.plan_id}/split-001",
        f"{other.plan_id}/split-001",
    ]
    assert [job.job_id for job in list_jobs(catalog, cluster="d")] == listed[2:]
    assert [job.job_id for job in list_jobs(catalog, plan_id=plan.plan_id)] == listed[:2]
    assert list_jobs(catalog, cluster="nobody") == []


def test_a_job_is_found_by_its_plan_and_action() -> None:
    catalog, plan = given()
    book = ReceiptBook(catalog, plan)
    with pytest.raises(NotFound) as caught:
        find_jobs(catalog, plan.plan_id[:8])
    assert caught.value.code == "job_absent"
    book.append(receipt(plan, 0))
    book.append(receipt(plan, 1, minute=1))
    assert len(find_jobs(catalog, plan.plan_id[:8])) == 2
    [job] = find_jobs(catalog, f"{plan.plan_id[:8].upper()}/split-001")
    assert job.action_id == "split-001"
    for reference, error in (
        (f"{plan.plan_id}/split-009", NotFound),
        ("ffff/split-001", NotFound),
        ("no plan", InvalidArgument),
        ("../etc/passwd", InvalidArgument),
    ):
        with pytest.raises(error):
            find_jobs(catalog, reference)


def test_a_receipt_of_an_unknown_status_is_refused_not_ignored() -> None:
    catalog, plan = given()
    ReceiptBook(catalog, plan).append(receipt(plan, 0))
    name = f"receipt/{plan.plan_id}"
    rows = catalog.read(name).to_pylist()
    rows[0]["status"] = "perhaps"
    catalog.commit([Write(name, pa.Table.from_pylist(rows, schema=RECEIPT))])
    with pytest.raises(InvalidInput) as caught:
        read_receipts(catalog, plan.plan_id)
    assert caught.value.code == "receipt_status_unknown"
