"""Claims about every call of `wb` that goes wrong: what helps is told in Python, nothing else.

Each public function, and each method of what they return, is called so that it fails; a new one
that is in neither table makes the first test fail. What is told beside answers is held to it too.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from workbench.api import collecting
from workbench.api.results import Result
from workbench.api.words import in_python, methods_in_python, python_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOBODY = "node://127.0.0.1:9"
FLAG = re.compile(r"(?<![\w-])--[a-z]|\bworkbench (?:[a-z]+ )*[a-z-]+")
# Cannot fail, or only by what a test of its own breaks (a process, a disk).
HARMLESS = {
    "Application": {"applied"},
    "Catalog": {"committed_at", "queries", "read_only", "readable", "seq"},
    "Clients": {"check", "made", "wait"},
    "Cluster": {"capabilities", "close"},
    "Comparison": set[str](),
    "Hot": {"hot", "keys", "plan_id"},
    "Plan": {
        *("approved", "cluster", "content_hash", "declined", "pareto", "plan_id", "share_after"),
        *("share_before", "since", "to_json", "until"),
    },
    "Report": {"html"},
    "Verification": {"by_window", "held"},
    "functions": {"connectors"},
}
OF_RESULT = {name for name, _ in inspect.getmembers(Result) if not name.startswith("_")}


class Stage:
    """A catalog with two clusters, a plan on it, and things that are not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sets = wb.datasets("hot-range", out=folder, accesses=4_000, seed=5)
        self.url = str(folder / "catalog")
        for name in ("shop", "bar"):
            wb.collect(self.sets.path("hot-range"), self.url, cluster=name, routes=4)
        self.catalog = wb.open(self.url)
        self.was = self.catalog.at(1)
        self.plan = wb.plan(self.catalog, cluster="shop", backtest=False, max_splits=2)
        self.half = wb.plan(self.catalog, cluster="shop", until="50%", backtest=False, max_splits=2)
        self.stale = wb.find_plan(self.half.plan_id, self.catalog)
        self.file = folder / "routes.json"
        self.file.write_text(
            '{"catalog_version": 4, "routes":'
            ' [{"route_id": 1, "start": "", "end": null, "group": 1}]}'
        )
        self.steady = wb.connect(f"file:{self.file}")
        with wb.cluster_up(folder / "gone", nodes=1, groups=1) as gone:
            self.none = gone
        self.none.directory = folder / "nowhere"


CALLS: dict[str, Callable[[Stage], Any]] = {
    "cluster_down": lambda s: wb.cluster_down(s.folder / "nowhere"),
    "cluster_up": lambda s: wb.cluster_up(s.folder / "gone", nodes=2, groups=9),
    "cluster_up 0": lambda s: wb.cluster_up(s.folder / "new", nodes=0),
    "cluster_up window": lambda s: wb.cluster_up(s.folder / "new", window="soon"),
    "cluster_up replicas": lambda s: wb.cluster_up(s.folder / "new", nodes=1, replicas=3),
    "cluster_up foreign": lambda s: wb.cluster_up(s.folder),
    "collect": lambda s: wb.collect("trace:nothing.csv", s.url),
    "collect again": lambda s: wb.collect(
        s.sets.path("hot-range"), s.url, cluster="shop", routes=2
    ),
    "collect live": lambda s: wb.collect(NOBODY, s.url),
    "collect kind": lambda s: wb.collect(42, s.url),  # type: ignore[arg-type]
    "collect scheme": lambda s: wb.collect("nod://127.0.0.1:7001", s.url),
    "collect rate": lambda s: wb.collect(s.sets.path("hot-range"), s.url, cluster="c", rate=-1),
    "collect columns": lambda s: wb.collect(
        s.sets.path("hot-range"), s.url, cluster="c", columns={"key": "nothing"}
    ),
    "compare": lambda s: wb.compare(s.catalog),
    "compare until": lambda s: wb.compare(s.catalog, cluster="shop", until="100%"),
    "connect": lambda s: wb.connect("nowhere://1"),
    "connect kind": lambda s: wb.connect(7),  # type: ignore[arg-type]
    "datasets": lambda s: wb.datasets("hott", out=s.folder),
    "export": lambda s: wb.export(NOBODY, s.catalog),
    "export trace": lambda s: wb.export(s.steady, s.catalog, resume="nothing"),
    "find_plan": lambda s: wb.find_plan("00000000", s.catalog),
    "find_plan short": lambda s: wb.find_plan("0", s.catalog),
    "follow": lambda s: list(wb.follow("trace:x.csv", s.url)),
    "follow length": lambda s: list(wb.follow(NOBODY, s.url, every="x")),
    "follow kind": lambda s: list(wb.follow(3, s.url)),  # type: ignore[arg-type]
    "heatmap": lambda s: wb.heatmap(s.catalog),
    "hot": lambda s: wb.hot(s.catalog),
    "hot since": lambda s: wb.hot(s.catalog, cluster="shop", since="9", until="1"),
    "open": lambda s: wb.open(s.folder / "nothing"),
    "picture": lambda s: wb.picture(s.catalog),
    "picture out": lambda s: wb.picture(s.catalog, cluster="shop", out="x.jpg"),
    "plan": lambda s: wb.plan(s.catalog),
    "plan until": lambda s: wb.plan(s.catalog, cluster="shop", until="0%"),
    "plan policy": lambda s: wb.plan(s.catalog, cluster="shop", policy="hott"),
    "report": lambda s: wb.report(s.plan, s.folder / "x.txt"),
    "restore": lambda s: wb.restore("nothing", NOBODY, s.catalog),
    "verify": lambda s: wb.verify(s.plan),
    "verify on": lambda s: wb.verify(s.half, on="nothing"),
    "workbench": lambda s: wb.workbench(s.catalog),
    "Catalog.approvals": lambda s: s.catalog.approvals("00000000"),
    "Catalog.at": lambda s: s.catalog.at("never"),
    "Catalog.at far": lambda s: s.catalog.at(10_000),
    "Catalog.check": lambda s: s.was.check(),
    "Catalog.load": lambda s: s.catalog.load(),
    "Catalog.properties": lambda s: s.catalog.properties("nothing"),
    "Catalog.query": lambda s: s.catalog.query("load-per-route"),
    "Catalog.query name": lambda s: s.catalog.query("nothing"),
    "Catalog.read": lambda s: s.catalog.read("nothing"),
    "Catalog.routes": lambda s: s.catalog.routes("shop", version=7),
    "Catalog.sql": lambda s: s.catalog.sql("SELECT * FROM nothing"),
    "Catalog.sql text": lambda s: s.catalog.sql("DROP TABLE x"),
    "Catalog.view": lambda s: s.catalog.view(),
    "Catalog.writable": lambda s: s.was.writable(),
    "Cluster.clients": lambda s: s.steady.clients(),
    "Cluster.load": lambda s: s.steady.load(),
    "Cluster.load gone": lambda s: wb.connect(NOBODY).load(),
    "Cluster.routes": lambda s: wb.connect(NOBODY).routes(),
    "LocalCluster.down": lambda s: s.none.down(),
    "LocalCluster.status": lambda s: s.none.status(),
    "Datasets.path": lambda s: s.sets.path("zipf"),
    "Picture.save": lambda s: wb.picture(s.catalog, cluster="shop").save(s.folder),
    "Plan.apply": lambda s: s.plan.apply(),
    "Plan.apply to": lambda s: s.plan.apply(4),  # type: ignore[arg-type]
    "Plan.approve": lambda s: s.plan.approve("split-009"),
    "Plan.approve by": lambda s: s.plan.approve(by="a:b"),
    "Plan.approve policy": lambda s: s.plan.approve(policy=s.folder / "nothing.toml"),
    "Plan.explain": lambda s: s.plan.explain("split-009"),
    "Plan.replay": lambda s: s.plan.replay(),
    "Plan.report": lambda s: s.plan.report(s.folder / "x.txt"),
    "Plan.save": lambda s: s.plan.save(s.folder / "x.txt"),
    "Plan.withdraw": lambda s: s.plan.withdraw("split-009"),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("hints"))


def told(error: wb.WorkbenchError) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def public() -> Iterator[str]:
    """Yield what a user can call, but for what every answer has."""
    for name in wb.__all__:
        found = getattr(wb, name)
        if inspect.isfunction(found) or name == "report":
            if name not in HARMLESS["functions"]:
                yield name
        elif inspect.isclass(found) and not issubclass(found, BaseException):
            of_result = OF_RESULT if issubclass(found, Result) else set[str]()
            for method, value in vars(found).items():
                is_call = inspect.isfunction(value) or isinstance(value, property | staticmethod)
                harmless = HARMLESS.get(name, ())
                if is_call and not method.startswith("_") and method not in {*harmless, *of_result}:
                    yield f"{name}.{method}"


def test_every_public_call_is_made_to_fail_here() -> None:
    # These read the catalog alone, and fail as `Catalog.readable` does: not at all.
    quiet = {"Catalog.clusters", "Catalog.datasets", "Catalog.exports", "Catalog.jobs"}
    quiet |= {"Catalog.plans", "Catalog.refresh", "Plan.approvals", "Plan.jobs"}
    quiet |= {name for name in public() if name.split(".", maxsplit=1)[0] == "Result"}
    assert {name.split()[0] for name in CALLS} >= set(public()) - quiet


@pytest.mark.parametrize("name", CALLS)
def test_what_goes_wrong_is_told_in_the_words_of_python(name: str, stage: Stage) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        CALLS[name](stage)
    assert caught.value.code
    assert FLAG.search(told(caught.value)) is None, told(caught.value)


def test_what_a_round_of_follow_yields_is_told_likewise(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = wb.Unavailable("gone", code="node_gone", hint="pass --on, or `workbench cluster up`")
    monkeypatch.setattr(collecting, "follow_live", lambda *_: iter([gone]))
    (found,) = wb.follow(NOBODY, stage.url)
    assert isinstance(found, wb.Unavailable)
    assert found.hint == "pass on=, or `wb.cluster_up()`"


def test_notes_and_warnings_of_an_answer_are_told_likewise(stage: Stage) -> None:
    rows = stage.catalog.datasets().rows
    found = Result(rows, "x", notes=("see --since",), warnings=("run `workbench hot`",))
    assert (found.notes, found.warnings) == (("see since=",), ("run `wb.hot`",))


def test_generators_methods_and_properties_translate() -> None:
    def fails() -> None:
        raise wb.Conflict("held", code="x", hint="pass --replace")

    @methods_in_python
    class Things:
        @property
        def first(self) -> None:
            """Documented."""
            fails()

        def second(self) -> None:
            fails()

        def _third(self) -> None:
            fails()

    @in_python
    def steps() -> Iterator[int]:
        yield 1
        fails()

    things = Things()
    for call in (lambda: things.first, things.second, lambda: list(steps())):
        with pytest.raises(wb.Conflict) as caught:
            call()
        assert caught.value.hint == "pass replace=True"
    with pytest.raises(wb.Conflict) as caught:
        things._third()
    assert caught.value.hint == "pass --replace"
    assert Things.first.__doc__ == "Documented."
    assert next(steps()) == 1


def test_an_option_that_python_lacks_names_its_whole_command() -> None:
    said = python_words("choose one with --resume, drop one with --abandon")
    assert said == "choose one with resume=, drop one with `workbench export --abandon`"
    assert python_words(said) == said
    assert "--" not in python_words("this is a bug; run again with --debug and report it")
