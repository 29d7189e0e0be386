"""`workbench export` and `restore`: words, JSON, options, status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fake_history import NOW, FakeHistory, empty_like, history
from fakes import FakeCluster, FakeConnector, Killed

from workbench.cli.export import size_text, tally_text
from workbench.session import exporting, restoring
from workbench.session.exporting_lanes import Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL = "node://127.0.0.1:7001"
EMPTY = "node://127.0.0.1:7002"
EXPORT = ("export", "--target", URL)
RESTORE = ("restore", "nightly", "--target", EMPTY)


class Systems:
    """What the URLs lead to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {URL: history(12)}
        self.found[EMPTY] = empty_like(self.found[URL])


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch) -> Systems:
    made = Systems()
    monkeypatch.setattr(exporting, "open_routes", lambda url: made.found[url])
    monkeypatch.setattr(restoring, "open_routes", lambda url, **_how: made.found[url])
    return made


@pytest.fixture
def exported(systems: Systems, workbench: Callable[..., Any]) -> Systems:
    assert workbench("catalog", "init").status == 0
    assert workbench(*EXPORT, "--name", "nightly").status == 0
    return systems


def test_an_export_says_what_is_stored_and_what_comes_next(
    systems: Systems, workbench: Callable[..., Any]
):
    workbench("catalog", "init")
    outcome = workbench(*EXPORT, "--name", "nightly")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "export nightly of cluster local as of 2026-11-21T12:00:00Z"
    assert lines[-2].startswith("36 rows exported in ")
    assert "4 routes of version 7 are stored, counted again" in lines[-2]
    assert lines[-1] == "next: workbench restore nightly --target URL"


def test_json_of_an_export_fits_its_schema(systems: Systems, workbench: Callable[..., Any]):
    workbench("catalog", "init")
    document = workbench(*EXPORT, "--json").json
    assert document["name"] == "local-20261121T120000.000Z"
    assert document["datasets"][1] == "export/local-20261121T120000.000Z/route"
    assert (document["status"], document["rows"], document["new_rows"]) == ("complete", 36, 36)
    assert document["read_ts"] == NOW
    assert document["bytes"] > 0
    assert [group["group"] for group in document["groups"]] == [1, 2, 3]
    assert document["rows_per_second"] > 0
    again = workbench(*EXPORT, "--name", document["name"], "--json").json
    assert (again["existing"], again["new_rows"], again["rows_per_second"]) == (True, 0, None)
    assert "nothing was exported" in again["warnings"][0]


def kill(systems: Systems, workbench: Callable[..., Any]) -> None:
    def die(name: str) -> None:
        if name == "export":
            raise Killed

    systems.found[URL].on_call = die
    with pytest.raises(Killed):
        workbench(*EXPORT, "--name", "nightly")
    systems.found[URL].on_call = lambda _name: None


def test_an_export_that_was_killed_goes_on_or_is_abandoned(
    systems: Systems, workbench: Callable[..., Any]
):
    workbench("catalog", "init")
    kill(systems, workbench)
    assert workbench("restore", "--json").json["exports"][0]["status"] == "exporting"
    refused = workbench(*RESTORE)
    assert refused.status == 1
    assert f"workbench export --resume nightly --target {URL}" in refused.err
    gone = workbench("export", "--abandon", "nightly", "--json").json
    assert (gone["status"], gone["routes"]) == ("abandoned", None)
    assert workbench("restore").out.startswith("there is no export")
    kill(systems, workbench)
    assert ", resumed; 36 rows" in workbench(*EXPORT, "--resume", "nightly").out
    refused = workbench("export", "--abandon", "nightly")
    assert refused.status == 1
    assert "workbench catalog rm export/nightly/version" in refused.err


def test_an_abandoned_export_says_what_is_gone(systems: Systems, workbench: Callable[..., Any]):
    workbench("catalog", "init")
    kill(systems, workbench)
    assert "no longer registered" in workbench("export", "--abandon", "nightly").out


def test_exports_are_listed_for_people_and_for_programs(
    exported: Systems, workbench: Callable[..., Any]
):
    listed = workbench("restore")
    assert listed.status == 0
    assert "nightly" in listed.out
    assert "complete" in listed.out
    document = workbench("restore", "--json").json
    assert document["status"] == "listed"
    assert [each["name"] for each in document["exports"]] == ["nightly"]
    assert document["exports"][0]["rows"] == 36


def test_a_restore_says_what_it_did(exported: Systems, workbench: Callable[..., Any]):
    planned = workbench(*RESTORE, "--dry-run")
    assert planned.status == 0
    assert "would be restored; none was sent" in planned.out
    outcome = workbench(*RESTORE)
    assert outcome.status == 0
    assert "restored: 36 rows imported in" in outcome.out
    assert "4 routes of version 7 are there, some rows of each object compared" in outcome.out
    again = workbench(*RESTORE, "--check")
    assert "was restored before: 0 rows imported" in again.out
    assert "every row compared" in again.out


def test_json_of_a_restore_fits_its_schema(exported: Systems, workbench: Callable[..., Any]):
    planned = workbench(*RESTORE, "--dry-run", "--json").json
    assert (planned["status"], planned["new_rows"], planned["dry_run"]) == ("planned", 0, True)
    done = workbench(*RESTORE, "--json").json
    assert (done["status"], done["new_rows"], done["rows"]) == ("restored", 36, 36)
    assert done["restore_id"] == planned["restore_id"]
    assert done["catalog_version"] == 7
    assert sum(group["rows"] for group in done["groups"]) == 36
    assert workbench(*RESTORE, "--json").json["status"] == "already_restored"


def test_damage_is_listed_by_a_dry_run_and_refused_otherwise(
    exported: Systems, workbench: Callable[..., Any], tmp_path: Path
):
    document = workbench("catalog", "show", "export/nightly/version", "--json").json
    key = document["objects"][-1]["key"]
    path = tmp_path / ".workbench/catalog" / key
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    listed = workbench(*RESTORE, "--dry-run")
    assert listed.status == 1
    assert key in listed.out
    answer = workbench(*RESTORE, "--dry-run", "--json")
    assert answer.status == 1
    assert answer.json["problems"][0]["key"] == key
    refused = workbench(*RESTORE, "--json")
    assert refused.status == 1
    assert refused.error["code"] == "export_damaged"
    assert key in refused.error["message"]
    assert exported.found[EMPTY].restores == {}


def test_groups_are_mapped_by_number(exported: Systems, workbench: Callable[..., Any]):
    exported.found[EMPTY] = empty_like(FakeHistory(routes=exported.found[URL].routes[:2]))
    refused = workbench(*RESTORE)
    assert refused.status == 1
    assert "--map-group 3=1" in refused.err
    done = workbench(*RESTORE, "--map-group", "3=1", "--json").json
    assert [group["sources"] for group in done["groups"]] == [[1, 3], [2]]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("export",), 2, "target_missing"),
        (("restore", "nightly"), 2, "target_missing"),
        (("restore", "nightlu", "--target", EMPTY), 1, "export_absent"),
        (("export", "--target", URL, "--resume", "nightlu"), 1, "export_absent"),
        (("export", "--target", URL, "--read-ts", "soon"), 2, "time_invalid"),
        (("export", "--target", URL, "--read-ts", "2026-11-22T00:00:00Z"), 2, "read_ts_in_future"),
        (("export", "--target", URL, "--name", "../x"), 2, "export_name_invalid"),
        (("export", "--target", URL, "--name", "a", "--resume", "b"), 2, "export_options_conflict"),
        (("export", "--abandon", "nightly", "--resume", "b"), 2, "export_options_conflict"),
        (("export", "--abandon", "absent"), 1, "export_absent"),
        (("restore", "nightly", "--target", EMPTY, "--map-group", "3"), 2, "usage"),
        (("restore", "nightly", "--target", EMPTY, "--map-group", "a=b"), 2, "usage"),
        (
            ("restore", "nightly", "--target", EMPTY, "--map-group", "1=2", "--map-group", "1=3"),
            2,
            "group_mapping_invalid",
        ),
        (("restore", "nightly", "--target", EMPTY, "--resume"), 1, "restore_absent"),
        (("restore", "nightly", "--target", URL), 5, "target_not_empty"),
        (("export", "--target", URL, "--catalog", "./absent"), 1, "catalog_absent"),
        (("restore", "--catalog", "./absent"), 1, "catalog_absent"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(
    exported: Systems,
    workbench: Callable[..., Any],
    arguments: tuple[str, ...],
    status: int,
    code: str,
):
    outcome = workbench(*arguments, "--json")
    assert outcome.status == status
    assert outcome.error["code"] == code
    assert outcome.out == ""
    assert len(workbench(*arguments).err.splitlines()) == 1


@pytest.mark.parametrize("command", [EXPORT, RESTORE])
def test_a_connector_that_cannot_says_so(
    exported: Systems, workbench: Callable[..., Any], command: tuple[str, ...]
):
    exported.found = dict.fromkeys(exported.found, FakeConnector(FakeCluster()))
    outcome = workbench(*command, "--json")
    assert outcome.status == 2
    assert outcome.error["code"] in {"export_unsupported", "restore_unsupported"}


@pytest.mark.parametrize(
    ("target", "code"),
    [("node://nowhere", "url_invalid"), ("what://x:1", "connector_unknown")],
)
def test_a_url_that_leads_nowhere_is_wrong_usage(
    workbench: Callable[..., Any], target: str, code: str
):
    workbench("catalog", "init")
    outcome = workbench("export", "--target", target, "--json")
    assert (outcome.status, outcome.error["code"]) == (2, code)


def test_a_file_of_routes_exports_nothing(workbench: Callable[..., Any], tmp_path: Path):
    workbench("catalog", "init")
    routes = tmp_path / "routes.json"
    routes.write_text(
        '{"catalog_version": 1, "routes": [{"route_id": 1, "start": "", "end": null, "group": 1}]}'
    )
    outcome = workbench("export", "--target", f"file:{routes}", "--json")
    assert (outcome.status, outcome.error["code"]) == (2, "export_unsupported")


def test_progress_tells_rows_bytes_groups_and_rate():
    tally = Tally(rows=1_200_000, size=3 * 2**20, groups_done=1, groups=4, seconds=3.0)
    assert tally_text(tally) == "1,200,000 rows, 3.0 MiB, 1 of 4 groups, 400,000 rows/s"
    assert tally_text(Tally()) == "0 rows, 0 B"
    assert size_text(2**60).endswith("TiB")
