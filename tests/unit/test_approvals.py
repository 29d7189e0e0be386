"""Claims about unattended approval."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.test_plan import KEYS, T1, make
from workbench.errors import InvalidInput, NotFound
from workbench.model.keys import Span
from workbench.model.plan_given import EvidenceCertainty, Given, GivenRoute
from workbench.model.plan_parts import Backtest
from workbench.planner.approvals import ApprovalPolicy, broken_limits
from workbench.session.policies import read_policy

if TYPE_CHECKING:
    from pathlib import Path

HELD = Backtest(T1, 3, max_share_without=0.8, max_share_forecast=0.3, max_share_came=0.32, drift=0)


def broken(*, backtest: Backtest | None = None, hour: int = 12, **limits: Any) -> list[str]:
    plan = replace(make(), backtest=backtest)
    now = T1.replace(hour=hour) if hour != 1 else T1
    return broken_limits(plan, ApprovalPolicy("p", "0" * 64, **limits), now)


def test_a_policy_without_limits_approves() -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"max_splits": 3}, True),
        ({"max_splits": 2}, False),
        ({"max_bytes_moved": 0}, True),
        ({"min_gain": 0.5}, True),
        ({"min_gain": 0.99}, False),
        ({"forbidden": (Span(KEYS[0], KEYS[1]),)}, True),
        ({"forbidden": (Span(b"", None),)}, False),
        ({"hours": (12, 13)}, True),
        ({"hours": (13, 12)}, False),
        ({"hours": (22, 13)}, True),
        ({"hours": (0, 24)}, True),
        ({"max_age_ms": 11 * 3_600_000}, True),
        ({"max_age_ms": 11 * 3_600_000 - 1}, False),
        ({"require_backtest": True}, False),
        ({"require_backtest": True, "backtest": HELD}, True),
        ({"require_backtest": True, "backtest": replace(HELD, max_share_came=0.34)}, False),
        ({"require_backtest": True, "backtest": replace(HELD, max_share_came=0.8)}, False),
    ],
)
def test_each_limit_decides_at_its_edge(
    limits: dict[str, Any],
    allowed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert (broken(**limits) == []) is allowed


def test_every_broken_limit_is_named() -> None:
    assert len(broken(max_splits=0, min_gain=1.0, require_backtest=True, hours=(1, 2))) == 4


def test_evidence_from_the_future_is_not_old() -> None:
    plan = make()
    policy = ApprovalPolicy("p", "0" * 64, max_age_ms=0)
    assert broken_limits(plan, policy, plan.until - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("known", "asked", "allowed"),
    [
        ("certain", "certain", True),
        ("likely", "certain", False),
        ("likely", "likely", True),
        ("certain", "likely", True),
        (None, "likely", False),
    ],
)
def test_evidence_must_be_as_certain_as_is_asked_for(
    known: str | None,
    asked: str,
    allowed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    plan = make()
    if known is not None:
        routes = tuple(
            GivenRoute(number + 1, "ACTIVE", 0, EvidenceCertainty(known))
            for number in range(len(plan.routes_before))
        )
        plan = replace(plan, given=Given(routes, None, 3, 0, 60_000, False, "", "score"))  # noqa: FBT003 - by position
    policy = ApprovalPolicy("p", "0" * 64, certainty=EvidenceCertainty(asked))
    assert (broken_limits(plan, policy, T1) == []) is allowed


def test_only_routes_that_are_acted_on_must_be_certain() -> None:
    plan = make()
    acted = {a.span.start for a in plan.actions}
    routes = tuple(
        GivenRoute(
            number + 1,
            "ACTIVE",
            0,
            EvidenceCertainty("certain" if r.span.start in acted else "likely"),
        )
        for number, r in enumerate(plan.routes_before)
    )
    assert any(each.certainty == "likely" for each in routes)
    plan = replace(plan, given=Given(routes, None, 3, 0, 60_000, False, "", "score"))  # noqa: FBT003 - by position
    policy = ApprovalPolicy("p", "0" * 64, certainty=EvidenceCertainty.CERTAIN)
    assert broken_limits(plan, policy, T1) == []


def test_a_policy_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(
        'name = "nightly"\nmax_splits = 8\nmax_bytes_moved = 0\nmin_gain = 0.2\n'
        'hours = [22, 6]\nforbidden = [["61", ""]]\nmax_age = "2h"\nrequire_backtest = true\n'
        'certainty = "likely"\n'
    )
    policy = read_policy(path)
    assert (policy.name, policy.max_splits, policy.max_bytes_moved) == ("nightly", 8, 0)
    assert (policy.min_gain, policy.hours, policy.max_age_ms) == (0.2, (22, 6), 7_200_000)
    assert policy.forbidden == (Span(b"a", None),)
    assert policy.require_backtest is True
    assert policy.certainty is EvidenceCertainty.LIKELY
    first = policy.sha256
    path.write_text(path.read_text() + "# a comment\n")
    assert read_policy(path).sha256 != first


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no name"),
        ('name = "a b"', "no name"),
        ("name = 7 7", "not TOML"),
        ('name = "n"\nmax_split = 3', "max_split"),
        ('name = "n"\nmax_splits = -1', "max_splits is -1"),
        ('name = "n"\nmax_splits = true', "max_splits is True"),
        ('name = "n"\nmax_splits = 2.5', "max_splits is 2.5"),
        ('name = "n"\nmin_gain = 20', "min_gain is 20"),
        ('name = "n"\nmin_gain = nan', "min_gain is nan"),
        ('name = "n"\nhours = [22]', "hours is"),
        ('name = "n"\nhours = [3, 3]', "hours is"),
        ('name = "n"\nhours = "22-6"', "hours is"),
        ('name = "n"\nforbidden = [["zz", ""]]', "hex"),
        ('name = "n"\nforbidden = ["61"]', "forbidden has"),
        ('name = "n"\nforbidden = [["62", "61"]]', "empty or reversed"),
        ('name = "n"\nmax_age = "soon"', "soon"),
        ('name = "n"\nmax_age = 7', "policy"),
        ('name = "n"\nrequire_backtest = "no"', "require_backtest is 'no'"),
        ('name = "n"\ncertainty = "sure"', "certainty is 'sure'"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="is no approval policy") as caught:
        read_policy(path)
    assert part in str(caught.value)


def test_an_absent_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_policy(tmp_path / "none.toml")
