"""Claims about proofs: nothing is sought twice, and no wrong, changed or stale plan gets by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.plan_mutations import document_of, rehashed
from workbench.catalog.catalog import Write
from workbench.catalog.values import TIME_COLUMN
from workbench.errors import Conflict
from workbench.model.plan import OBJECTIVES, Limits
from workbench.model.plan_parts import GroupWeight, Stored
from workbench.model.routes import RouteSnapshot
from workbench.model.tables import routes_to_table
from workbench.planner.approvals import ApprovalPolicy
from workbench.planner.detect import Rule
from workbench.session import approval as module
from workbench.session import proofs as proofs_module
from workbench.session.approval import approve, approve_by_policy, approved_actions, user
from workbench.session.cluster import open_cluster
from workbench.session.collect import CollectOptions, collect
from workbench.session.datasets import accesses_bytes
from workbench.session.planning import plan as plan_load
from workbench.session.proofs import Proofs, ground_of
from workbench.session.wiring import open_catalog
from workbench.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.catalog.catalog import Catalog
    from workbench.model.plan import Plan

ANNA = user("anna")
LOOKS = ("false_claims", "remade_claims")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(accesses_bytes(generate("hot-range", accesses=1_000, seed=1)))
    url = str(tmp_path / "catalog")
    collect(f"trace:{trace}", url, CollectOptions(routes="3", cluster="c"))
    return open_catalog(url)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the checks, in the order in which they were made."""
    made: list[str] = []

    def counted(name: str) -> Any:
        check = getattr(module, name)

        def counting(*given: Any) -> Any:
            made.append(name)
            return check(*given)

        return counting

    for name in LOOKS:
        monkeypatch.setattr(module, name, counted(name))
    return made


def planned(catalog: Catalog, **changes: Any) -> Plan:
    view = open_cluster(catalog, "c")
    since, until = view.window(None, "50%")
    asked: dict[str, Any] = {"limits": Limits(3, 0.1), "rule": Rule(20.0), **changes}
    found = plan_load(view, since=since, until=until, objective=OBJECTIVES["score"], **asked)
    assert len(found.actions) >= 2
    return found


def made_here(catalog: Catalog, plan: Plan) -> Proofs:
    proofs = Proofs()
    proofs.make(plan, open_cluster(catalog, "c"), ground_of(catalog, "c"))
    return proofs


def refused(catalog: Catalog, plan: Plan, proofs: Proofs) -> bool:
    with pytest.raises(Conflict) as caught:
        approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    assert approved_actions(catalog, plan) == ()
    return caught.value.code == "plan_stale"


def routes_again(catalog: Catalog, *, version: int = 0, properties: bool = False) -> None:
    """Collect the same routes once more."""
    found = open_cluster(catalog, "c").snapshot
    taken = RouteSnapshot(found.catalog_version + version, found.routes, found.taken_at)
    told = {"source": "trace:another"} if properties else {}
    catalog.commit([Write("c/route", routes_to_table(taken), mode="replace", properties=told)])


def test_a_plan_is_looked_at_once_for_all_of_its_decisions(
    catalog: Catalog, looks: list[str]
) -> None:
    plan, proofs = planned(catalog), Proofs()
    for action in plan.actions:
        approve(catalog, plan, [action.action_id], approver=ANNA, proofs=proofs)
    approve(
        catalog, plan, [plan.actions[-1].action_id], approver=ANNA, proofs=proofs, withdraw=True
    )
    assert looks == [*LOOKS]
    assert len(approved_actions(catalog, plan)) == len(plan.actions) - 1


def test_without_proofs_every_decision_looks(catalog: Catalog, looks: list[str]) -> None:
    plan = planned(catalog)
    for _ in range(2):
        approve(catalog, plan, [], approver=ANNA)
    assert looks == [*LOOKS, *LOOKS]


def test_what_was_made_here_is_not_made_again_but_its_proof_is_verified(
    catalog: Catalog, looks: list[str]
) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    for _ in range(2):
        approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    assert looks == ["false_claims"]


def test_a_proof_in_another_process_is_worth_nothing(catalog: Catalog, looks: list[str]) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    approve(catalog, plan, [], approver=ANNA, proofs=Proofs())
    assert looks == ["false_claims", *LOOKS]


def test_a_wrong_plan_that_was_made_here_does_not_pass_the_verifier(catalog: Catalog) -> None:
    """The planted fault: a planner whose plan claims more load than there is."""
    document = document_of(planned(catalog))
    document["actions"][0]["evidence"]["parent_load"] += 1
    wrong = rehashed(document)
    assert refused(catalog, wrong, made_here(catalog, wrong))


def test_a_forged_sibling_of_what_was_made_here_is_refused(
    catalog: Catalog, looks: list[str]
) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    document = document_of(plan)
    document["actions"][0]["reasons"][0] = "route 1 carries 99.9% of the load"
    assert refused(catalog, rehashed(document), proofs)
    assert looks == ["false_claims", *LOOKS]


@pytest.mark.parametrize("proven", [False, True])
def test_a_plan_that_was_changed_in_memory_is_another_plan(
    catalog: Catalog,
    proven: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    if proven:
        proofs.prove(plan, ground_of(catalog, "c"))
    # The hash that it carries was computed before, and stays.
    plan.certificate["total"] += 1  # type: ignore[index]
    assert refused(catalog, plan, proofs)


@pytest.mark.parametrize("seen", ["made", "proven"])
def test_other_routes_are_other_ground_and_the_plan_is_stale(catalog: Catalog, seen: str) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    if seen == "proven":
        proofs.prove(plan, ground_of(catalog, "c"))
    routes_again(catalog, version=1)
    assert refused(catalog, plan, proofs)


@pytest.mark.parametrize("name", ["c/access", "c/load_window"])
def test_other_load_is_other_ground_and_the_plan_is_stale(catalog: Catalog, name: str) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    proofs.prove(plan, ground_of(catalog, "c"))
    properties = dict(catalog.get(name).properties)
    column = properties.pop(TIME_COLUMN)
    table = catalog.read(name)
    short = table.slice(table.num_rows // 10)
    write = Write(name, short, mode="replace", properties=properties, time_column=column)
    catalog.commit([write])
    assert ground_of(catalog, "c") is not None
    assert not proofs.proven(plan, ground_of(catalog, "c"))
    if name == "c/access":
        assert refused(catalog, plan, proofs)


def test_data_that_changed_without_harm_are_looked_at_again(
    catalog: Catalog, looks: list[str]
) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    routes_again(catalog, properties=True)
    approve(catalog, plan, [], approver=ANNA, proofs=proofs)
    assert looks == ["false_claims", *LOOKS]


def test_decisions_and_plans_are_no_ground(catalog: Catalog) -> None:
    plan = planned(catalog)
    before = ground_of(catalog, "c")
    approve(catalog, plan, [], approver=ANNA)
    assert ground_of(catalog, "c") == before


def test_data_that_nobody_hashed_are_no_ground(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, proofs, listed = planned(catalog), Proofs(), catalog.list
    proofs.prove(plan, ground_of(catalog, "c"))

    def unhashed(prefix: str = "") -> Any:
        found = listed(prefix)
        objects = tuple(replace(each, sha256=None) for each in found[0].objects)
        return [replace(found[0], objects=objects), *found[1:]]

    monkeypatch.setattr(catalog, "list", unhashed)
    ground = ground_of(catalog, "c")
    assert ground is None
    proofs.make(plan, open_cluster(catalog, "c"), ground)
    proofs.prove(plan, ground)
    assert not proofs.proven(plan, ground)
    assert proofs.made_from(plan, ground) is None


def test_a_plan_that_counts_stored_bytes_is_made_again_and_exports_are_its_ground(
    catalog: Catalog,
) -> None:
    plan = planned(catalog, limits=Limits(3, 0.1, groups=(GroupWeight(1), GroupWeight(2))))
    assert plan.placement is not None
    placed = replace(plan.placement, stored=Stored("nightly", 7))
    counting = replace(plan, placement=placed)
    assert made_here(catalog, plan).made_from(plan, ground_of(catalog, "c", plan)) is not None
    ground = ground_of(catalog, "c", counting)
    assert made_here(catalog, counting).made_from(counting, ground) is None
    table = catalog.read("c/route")
    catalog.commit([Write("export/nightly", table)])
    assert ground_of(catalog, "c", counting) != ground
    assert ground_of(catalog, "c", plan) == ground_of(catalog, "c")


def test_a_policy_looks_once(catalog: Catalog, looks: list[str]) -> None:
    plan = planned(catalog)
    decided = approve_by_policy(catalog, plan, ApprovalPolicy("p", "0" * 64), dry_run=False)
    assert decided.approval is not None
    assert looks == [*LOOKS]


def test_only_the_newest_proofs_are_kept(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs_module, "KEPT_MAX", 2)
    proofs, ground, view = Proofs(), ground_of(catalog, "c"), open_cluster(catalog, "c")
    first = planned(catalog)
    plans = [replace(first, total_load=first.total_load + each) for each in range(3)]
    for plan in plans:
        proofs.prove(plan, ground)
        proofs.make(plan, view, ground)
    assert [proofs.proven(plan, ground) for plan in plans] == [False, True, True]
    made = [proofs.made_from(plan, ground) is view for plan in plans]
    assert made == [False, True, True]


def test_load_that_was_read_anew_lets_go_of_the_old(catalog: Catalog) -> None:
    plan = planned(catalog)
    proofs = made_here(catalog, plan)
    ground = ground_of(catalog, "c")
    other, view = replace(plan, total_load=plan.total_load + 1), open_cluster(catalog, "c")
    proofs.make(other, view, ground)
    assert proofs.made_from(plan, ground) is None
    assert proofs.made_from(other, ground) is view
