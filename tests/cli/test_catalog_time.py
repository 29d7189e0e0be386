"""`workbench catalog at`, `ls --at`, `show --at`, `verify`, `repair`: what people see."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from workbench.catalog import commit
from workbench.catalog.catalog import Registration, Write
from workbench.catalog.layout import ckpt_key, log_key
from workbench.model.times import rfc3339
from workbench.session.system import SystemClock
from workbench.session.wiring import create_catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workbench.catalog.catalog import Catalog

RECORDS = 5


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The default catalog with five records and checkpoints at two and four."""
    monkeypatch.setattr(commit, "CHECKPOINT_RECORDS", 2)
    made = create_catalog(str(tmp_path / ".workbench/catalog"))
    for number in range(RECORDS):
        made.commit([Write(f"d/{number % 3}", pa.table({"n": [number]}), "append")])
    return made


def damage(tmp_path: Path, key: str) -> None:
    (tmp_path / ".workbench/catalog" / key).write_bytes(b"junk")


def rows(answer: Any) -> dict[str, int]:
    return {each["name"]: each["row_count"] for each in answer["datasets"]}


def test_the_past_is_shown_by_sequence_and_by_time(
    workbench: Callable[..., Any], catalog: Catalog
) -> None:
    three = workbench("catalog", "at", "3", "--json").json
    assert rows(three) == {"d/0": 1, "d/1": 1, "d/2": 1}
    assert three["seq"] == 3
    by_time = workbench("catalog", "at", three["committed_at"], "--json").json
    assert by_time == three
    assert rows(workbench("catalog", "ls", "--json").json) == {"d/0": 2, "d/1": 2, "d/2": 1}
    assert rows(workbench("catalog", "ls", "--at", "1", "--json").json) == {"d/0": 1}
    shown = workbench("catalog", "show", "d/0", "--at", three["committed_at"], "--json").json
    assert (shown["row_count"], len(shown["objects"])) == (1, 1)
    text = workbench("catalog", "at", "2")
    assert text.status == 0
    assert "committed 20" in text.out
    assert "2 datasets at sequence 2" in text.out
    first = workbench("catalog", "at", "0", "--json").json
    assert (first["committed_at"], first["datasets"]) == (None, [])


def test_what_is_not_past_is_wrong_usage_or_input(
    workbench: Callable[..., Any], catalog: Catalog
) -> None:
    assert workbench("catalog", "at", "9", "--json").error["code"] == "point_invalid"
    assert workbench("catalog", "at", "yesterday", "--json").error["code"] == "time_invalid"
    assert workbench("catalog", "at", "2999-01-01", "--json").error["code"] == "point_invalid"
    assert workbench("catalog", "show", "d/2", "--at", "1", "--json").error["code"] == (
        "dataset_absent"
    )


def test_verify_counts_checkpoints(workbench: Callable[..., Any], catalog: Catalog) -> None:
    answer = workbench("catalog", "verify", "--json").json
    assert {key: answer[key] for key in ("seq", "records", "checkpoints", "objects")} == {
        "seq": RECORDS,
        "records": RECORDS,
        "checkpoints": 2,
        "objects": RECORDS,
    }
    text = workbench("catalog", "verify")
    assert "5 records, 2 checkpoints and 5 objects checked: no problem" in text.out


def test_a_damaged_checkpoint_is_warned_of_found_and_repaired(
    workbench: Callable[..., Any], catalog: Catalog, tmp_path: Path
) -> None:
    damage(tmp_path, ckpt_key(4))
    listed = workbench("catalog", "ls", "--json")
    assert rows(listed.json) == {"d/0": 2, "d/1": 2, "d/2": 1}
    assert listed.err.startswith(f"warning: {ckpt_key(4)}: ")
    assert workbench("catalog", "verify").status == 1
    dry = workbench("catalog", "repair")
    assert dry.status == 1
    assert f"to do: {ckpt_key(4)}: move to quarantine" in dry.out
    assert "run `workbench catalog repair --yes`" in dry.out
    done = workbench("catalog", "repair", "--yes", "--json")
    assert done.status == 0
    assert [each["step"] for each in done.json["actions"]] == ["quarantine", "write_checkpoint"]
    after = workbench("catalog", "ls", "--json")
    assert (after.out, after.err) == (listed.out, "")
    assert workbench("catalog", "repair").out == "nothing to repair\n"


def test_a_lost_record_is_named_and_the_rest_is_served(
    workbench: Callable[..., Any], catalog: Catalog, tmp_path: Path
) -> None:
    damage(tmp_path, log_key(5))
    assert workbench("catalog", "ls", "--json").error["code"] == "record_corrupt"
    done = workbench("catalog", "repair", "--yes", "--json")
    assert (done.status, done.json["lost"]) == (0, [5])
    assert rows(workbench("catalog", "ls", "--json").json) == {"d/0": 2, "d/1": 1, "d/2": 1}
    assert workbench("catalog", "at", "3", "--json").error["code"] == "history_trimmed"
    assert workbench("catalog", "verify").status == 0


def test_data_that_are_gone_are_beyond_repair_and_named(
    workbench: Callable[..., Any], catalog: Catalog, tmp_path: Path
) -> None:
    [ref] = catalog.get("d/2").objects
    (tmp_path / ".workbench/catalog" / ref.key).unlink()
    found = workbench("catalog", "repair", "--yes", "--json")
    assert found.status == 1
    [left] = found.json["left"]
    assert left["key"] == ref.key
    assert "workbench catalog rm d/2" in left["reason"]


def test_a_repair_says_in_both_forms_that_the_past_ends_with_it(
    workbench: Callable[..., Any], catalog: Catalog, tmp_path: Path
) -> None:
    damage(tmp_path, log_key(5))
    assert "note: time travel begins at sequence 6 then" in workbench("catalog", "repair").out
    told = workbench("catalog", "repair", "--json").json
    assert (told["floor"], told["suspected"]) == (6, ["d/1"])
    assert told["notes"]
    workbench("catalog", "repair", "--yes")
    refused = workbench("catalog", "ls", "--at", "2")
    assert "a repair started the log" in refused.err
    assert "gc" not in refused.err


def test_a_clock_that_was_ahead_is_information_and_no_problem(
    workbench: Callable[..., Any], catalog: Catalog
) -> None:
    far = SystemClock().now() + timedelta(days=30)
    catalog._clock = SimpleNamespace(now=lambda: far, sleep=lambda _: None)
    catalog.register([Registration("far", "f", ())])
    verified = workbench("catalog", "verify", "--json")
    assert (verified.status, verified.json["problems"]) == (0, [])
    assert "clock was ahead" in verified.json["information"][0]
    text = workbench("catalog", "verify")
    assert text.status == 0
    assert "information: " in text.out
    looked = workbench("catalog", "at", rfc3339(SystemClock().now()))
    assert "clock was ahead" in looked.err


def test_a_time_to_come_is_wrong_usage_with_its_zone(
    workbench: Callable[..., Any], catalog: Catalog
) -> None:
    refused = workbench("catalog", "at", "2999-01-01T00:00:00")
    assert refused.status == 2
    assert "2999-01-01T00:00:00Z (UTC) is to come" in refused.err


def test_help_names_buckets_too(workbench: Callable[..., Any]) -> None:
    shown = " ".join(workbench("catalog", "ls", "--help").out.split())
    assert "s3://BUCKET/PREFIX; see docs/stores.md" in shown
