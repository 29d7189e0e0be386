"""Every number of a plan, computed anew from the load by the package's SQL, and compared.

    plan ──▶ spans, cuts, limits ─┐
    load ──▶ atoms ───────────────┴──query.figures──▶ path of a number ──▶ its value
                                                       │
    document, number by number ────────────────────────┴──▶ what differs, and what has no SQL

What has no SQL is in NOT_COMPUTED with the reason: what was given, what names something, and what
only a search can tell, which the independent verifier makes anew.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from workbench.model.plan import ActionKind, plan_to_json
from workbench.query.figures import figure_rows, relation
from workbench.session.stored import sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from workbench.model.keys import Span
    from workbench.model.plan import Plan
    from workbench.model.plan_parts import Backtest
    from workbench.query.load import Source
    from workbench.session.cluster import ClusterView

Number = int | float
# Probing more blocks than this takes minutes in SQL; the verifier proves the same numbers.
PROBE_BLOCKS_MAX: Final = 50_000
RELATIVE: Final = 1e-9
# The routes before, with the cuts around isolated keys.
OWN: Final = "isolated"

GIVEN: Final = "given: an input of the plan"
NAMED: Final = "names something: a position, an id or a version, not a quantity"
SEARCHED: Final = "what a search reaches; the verifier searches anew, or checks the proof"
NOT_COMPUTED: Final[Mapping[str, str]] = {
    r"limits\..*|given\..*|weights\..*|threshold_per_minute|evidence\.parameters\..*": GIVEN,
    r"robust\.shrink\[\d\]|placement\.scale|placement\.groups\[\d+\]\.weight": GIVEN,
    r"certificate\.\w+\.splits|certificate\.robust\.further\.splits": GIVEN,
    r"placement\.stored\.read_ts|drift\.period": GIVEN,
    r"catalog_version|.*\.(route_id|group|target_group|expected_version)": NAMED,
    r"certificate\.\w+\.(cuts|fixed)\[\d+\]|certificate\.\w+\.witness\..*": NAMED,
    r"pareto\[\d+\]\.splits|actions\[\d+\]\.rows_moved": NAMED,
    r"placement\.(lower_bound|pareto\[\d+\]\.(moved|weighted))": SEARCHED,
}
# Only where a limit or the size keeps SQL from probing: see `_probes`.
PROBED: Final = r"pareto\[\d+\]\.bottleneck|certificate\.robust\.(fewest|shared_\w+|further\..*)"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan's numbers beside those of SQL.

    Attributes:
        computed: By path in the document, what SQL gives.
        differing: Sentences on numbers that SQL gives otherwise.
        unexplained: Paths of numbers that neither SQL nor NOT_COMPUTED accounts for.
    """

    computed: Mapping[str, Number | None]
    differing: tuple[str, ...]
    unexplained: tuple[str, ...]


def compare_figures(view: ClusterView, plan: Plan, source: Source) -> Comparison:
    """Compute a plan's numbers anew and compare every one of them.

    Raises:
        InvalidInput: the load in the catalog cannot be summed, or was not measured.
    """
    figures = _Figures(view, plan, source)
    computed = figures.computed()
    differing, unexplained = [], []
    for path, stated in numbers_of(plan_to_json(plan)):
        if path in computed:
            found = computed[path]
            if found is None or not math.isclose(stated, found, rel_tol=RELATIVE, abs_tol=1e-12):
                differing.append(f"{path}: the plan says {stated}, SQL gives {found}")
        elif not _is_excused(path, plan, probed=figures.probed):
            unexplained.append(path)
    return Comparison(computed, tuple(differing), tuple(unexplained))


def numbers_of(value: object, path: str = "") -> Iterator[tuple[str, Number]]:
    """Yield the path and value of every number in a JSON document."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from numbers_of(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from numbers_of(each, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def figure_claims(view: ClusterView, plan: Plan, source: Source) -> list[str]:
    """Return the numbers of a plan that SQL gives otherwise, as sentences; empty is good."""
    found = compare_figures(view, plan, source)
    return [*found.differing, *(f"{path}: no SQL gives this number" for path in found.unexplained)]


def _is_excused(path: str, plan: Plan, *, probed: bool) -> bool:
    patterns = [*NOT_COMPUTED, *([] if probed else [PROBED])]
    for name, tried in (("backtest", plan.backtest), ("backtest_exact", plan.backtest_exact)):
        # Documents of before 2026-11-21 do not tell where the first half's plan cut.
        patterns += [rf"forecast\.{name}\..*"] if tried and tried.cuts is None else []
    return any(re.fullmatch(pattern, path) for pattern in patterns)


class _Figures:
    """The numbers of one plan; the load is read once."""

    def __init__(self, view: ClusterView, plan: Plan, source: Source) -> None:
        self.view, self.plan, self.source = view, plan, source
        self.atoms = self._atoms_of(plan.since, plan.until)
        self.before = [route.span for route in plan.routes_before]
        self.after = [route.span for route in plan.routes_after]
        self.blocks = self._blocks()
        self.starts = [row["block_start"] for row in self.blocks]
        self.probed = not plan.limits.min_span_load and len(self.blocks) <= PROBE_BLOCKS_MAX
        self.found: dict[str, Number | None] = {}

    def computed(self) -> dict[str, Number | None]:
        """Return the value of every path that SQL tells."""
        self._loads()
        self._marks()
        self._claims()
        if self.probed:
            self._probes()
        for name, tried in (
            ("backtest", self.plan.backtest),
            ("backtest_exact", self.plan.backtest_exact),
        ):
            if tried is not None and tried.cuts is not None:
                self._backtest(f"forecast.{name}", tried)
        if self.plan.placement is not None:
            self._groups()
        if self.plan.drift is not None:
            self._parts()
        return self.found

    def _atoms_of(self, since: datetime, until: datetime) -> pa.Table:
        return self.view.load.atoms(self.source, self.plan.objective, since, until)

    def _blocks(self) -> list[dict[str, Any]]:
        limits = self.plan.limits
        boundaries = limits.boundaries
        prefix = None if boundaries is None else boundaries.prefix_bytes
        data = {
            "atom": self.atoms,
            "route": _spans(("route_start", "route_end"), self.before),
            "forbidden": _spans(("span_start", "span_end"), limits.forbidden),
            "boundary": relation(
                ["key"], [] if boundaries is None else [(key,) for key in boundaries.keys]
            ),
        }
        parameters = {
            "is_key": self.plan.atom_kind == "key",
            "is_listed": boundaries is not None and prefix is None,
            "prefix_bytes": prefix,
        }
        return figure_rows("plan_blocks", data, parameters)

    def _loads(self) -> None:
        """Fill in the load of every span that the plan names."""
        spans: list[tuple[str, int, bytes, bytes | None]] = []

        def name(path: str, start: bytes, end: bytes | None) -> None:
            self._names.append(path)
            spans.append(("", len(spans), start, end))

        self._names: list[str] = []
        for title, routes in (("routes_before", self.before), ("routes_after", self.after)):
            for index, span in enumerate(routes):
                name(f"{title}[{index}].load", span.start, span.end)
        for index, action in enumerate(self.plan.actions):
            path = f"actions[{index}].evidence."
            name(f"{path}parent_load", action.span.start, action.span.end)
            if action.kind is ActionKind.MOVE:
                self.found[f"{path}left_load"] = 0
            else:
                name(f"{path}left_load", action.span.start, action.split_key)
            name(f"{path}right_load", action.split_key, action.span.end)
            self.found[f"actions[{index}].bytes_moved"] = 0
        for index, heavy in enumerate(self.plan.unsplittable):
            name(f"unsplittable[{index}].load", heavy.key, heavy.key + b"\x00")
        for index, isolated in enumerate(self.plan.isolated):
            name(f"isolated[{index}].load", isolated.key, isolated.key + b"\x00")
            route = next(span for span in self.before if isolated.key in span)
            name(f"isolated[{index}].route_load", route.start, route.end)
        table = relation(["list", "position", "span_start", "span_end"], spans)
        for row in figure_rows("plan_spans", {"atom": self.atoms, "span": table}):
            self.found[self._names[row["position"]]] = row["load"]

    def _marks(self) -> None:
        """Fill in the heaviest routes and what bounds them."""
        last = len(self.plan.actions)
        born = dict.fromkeys(self.before, 0)
        died: dict[Span, int] = {}
        loads = {span: self.found[f"routes_before[{i}].load"] for i, span in enumerate(self.before)}
        for index, action in enumerate(self.plan.actions):
            if action.kind is ActionKind.MOVE:
                continue
            died[action.span] = index + 1
            sides = zip(action.children, ("left_load", "right_load"), strict=True)
            for child, side in sides:
                born[child] = index + 1
                loads[child] = self.found[f"actions[{index}].evidence.{side}"]
        rows = [
            (loads[span], start == 0, span not in died, start, died.get(span, last + 2))
            for span, start in born.items()
        ]
        names = ["load", "is_before", "is_after", "born", "died"]
        blocks = relation(["load", "atoms"], [(row["load"], row["atoms"]) for row in self.blocks])
        answer = figure_rows(
            "plan_marks",
            {"route_load": relation(names, rows), "block": blocks},
            {"is_key": self.plan.atom_kind == "key", "steps": last + 1},
        )
        found = {
            row["figure"]: row["share"] if row["whole"] is None else row["whole"] for row in answer
        }
        for index in range(last):
            path = f"actions[{index}].evidence.bottleneck_"
            self.found[f"{path}before"] = found.pop(f"step {index}")
            self.found[f"{path}after"] = found[f"step {index + 1}"]
        self.found["certificate.blocks"] = found.pop("blocks")
        self.found["certificate.atoms"] = found["atoms"]
        self.found["certificate.total"] = found["total_load"]
        self.found |= {path: value for path, value in found.items() if " " not in path}

    def _edges(self) -> tuple[pa.Table, pa.Table]:
        """Return the running sums of the blocks by weights, and the segments by grid."""
        loads = [row["load"] for row in self.blocks]
        keys = [row["keys"] for row in self.blocks]
        weights = {"recorded": loads}
        if self.plan.robust is not None:
            n, d = self.plan.robust.shrink
            total, count = sum(loads), sum(keys)
            pairs = zip(loads, keys, strict=True)
            weights["shrunk"] = [(d - n) * count * load + n * total * k for load, k in pairs]
        if self.plan.drift is not None and self.plan.drift.period is not None:
            for phase, row in enumerate(self._phase_loads()):
                weights[f"phase {phase}"] = row
        self.weights = weights
        edges = [
            (name, at, upto)
            for name, row in weights.items()
            for at, upto in enumerate(accumulate(row, initial=0))
        ]
        routes = [bisect_left(self.starts, span.start) for span in self.before]
        self.route_bounds = [*routes, len(loads)]
        # Routes without load have no block: the same bound twice, and a segment all the same.
        self.bounds = sorted([*self.route_bounds, *self._isolating(loads)])
        own = set(self.plan.certificate["incremental"].get("fixed", ()))
        fixed = set(self.plan.limits.fixed_routes)
        segments = [("whole", 0, len(loads), False)]
        for grid, bounds, kept in (
            ("routes", self.route_bounds, fixed),
            (OWN, self.bounds, own),
        ):
            segments += [
                (grid, low, high, index in kept)
                for index, (low, high) in enumerate(pairwise(bounds))
                if high > low
            ]
        self.fixed = [
            (low, high) for grid, low, high, is_fixed in segments if is_fixed and grid == "isolated"
        ]
        return (
            relation(["weights", "place", "upto"], edges),
            relation(["grid", "low", "high", "is_fixed"], segments),
        )

    def _isolating(self, loads: Sequence[int]) -> list[int]:
        """Return the blocks before which isolated keys have the plan cut."""
        cuts = []
        for isolated in self.plan.isolated:
            block = bisect_right(self.starts, isolated.key) - 1
            at = bisect_right(self.route_bounds, block) - 1
            low, high = self.route_bounds[at : at + 2]
            cuts += [block] if any(loads[low:block]) else []
            cuts += [block + 1] if any(loads[block + 1 : high]) else []
        return cuts

    def _phase_loads(self) -> list[list[int]]:
        drift = self.plan.drift
        assert drift is not None
        assert drift.period is not None
        rows = [[0] * len(self.starts) for _ in range(drift.period)]
        for number, part in enumerate(drift.parts):
            atoms = self._atoms_of(part.since, part.until)
            for key, load in zip(*(column.to_pylist() for column in atoms.columns), strict=True):
                if any(key in span for span in self.before):
                    rows[number % drift.period][bisect_right(self.starts, key) - 1] += load
        return rows

    def _claims(self) -> None:
        """Fill in what the cuts of the certificate, and of the plan, reach."""
        self.edge, self.segment = self._edges()
        proof, count = self.plan.certificate, len(self.starts)
        claims = {
            "incremental": (["recorded"], [*self.bounds, *proof["incremental"]["cuts"]]),
            "optimum": (["recorded"], [0, count, *proof["optimum"]["cuts"]]),
        }
        after = [*(bisect_left(self.starts, span.start) for span in self.after), count]
        robust = proof.get("robust")
        if robust is not None:
            claims["robust"] = (["shrunk"], [*self.bounds, *robust["cuts"]])
            claims["plan"] = (["shrunk"], after)
        if "phases" in proof:
            phases = [name for name in self.weights if name.startswith("phase")]
            claims["phases"] = (phases, [*self.bounds, *proof["phases"]["cuts"]])
        rows = [(c, w, at) for c, (names, ats) in claims.items() for w in names for at in {*ats}]
        data = {
            "edge": self.edge,
            "bound": relation(["claim", "weights", "place"], rows),
            "whole": relation(["low", "high"], self.fixed),
        }
        pieces = {row["claim"]: row for row in figure_rows("plan_pieces", data)}
        for name in claims:
            if name != "plan":
                self.found[f"certificate.{name}.bottleneck"] = int(pieces[name]["heaviest"])
        self.found["bottleneck.optimum"] = int(pieces["optimum"]["heaviest"])
        if robust is None or self.plan.robust is None:
            return
        least, after_load = int(pieces["incremental"]["heaviest"]), self.found["bottleneck.after"]
        assert isinstance(after_load, int)
        self.found |= {
            "robust.bottleneck": int(pieces["plan"]["heaviest"]),
            "robust.shared": int(pieces["plan"]["shared"]),
            "robust.keys": sum(row["keys"] for row in self.blocks),
            "robust.total": sum(self.weights["shrunk"]),
            "robust.optimum": least,
            "robust.price": after_load - least,
        }

    def _probes(self) -> None:
        """Fill in what is the least for a number of splits: it can be reached, one less cannot."""
        proof = self.plan.certificate
        asked = [
            (f"pareto[{index}].bottleneck", "routes", "recorded", False, load, splits)
            for index, (splits, load) in enumerate(self.plan.pareto)
        ]
        for name, grid in (("incremental", OWN), ("optimum", "whole")):
            claim = proof[name]
            path = f"certificate.{name}.bottleneck"
            asked.append((path, grid, "recorded", False, claim["bottleneck"], claim["splits"]))
        robust = proof.get("robust")
        if robust is not None:
            path = "certificate.robust."
            splits, fewest = robust["splits"], robust["fewest"]
            asked += [
                (f"{path}bottleneck", OWN, "shrunk", False, robust["bottleneck"], splits),
                (
                    f"{path}shared_fewest",
                    "isolated",
                    "shrunk",
                    True,
                    robust["shared_fewest"],
                    fewest,
                ),
                (f"{path}shared_all", OWN, "shrunk", True, robust["shared_all"], splits),
            ]
        rows = []
        for index, (_, grid, weights, lone, load, _) in enumerate(asked):
            rows += [
                (2 * index, grid, weights, lone, load),
                (2 * index + 1, grid, weights, lone, load - 1),
            ]
        table = relation(["probe", "grid", "weights", "lone", "most"], rows)
        data = {"edge": self.edge, "segment": self.segment, "probe": table}
        needed = [row["cuts"] for row in figure_rows("plan_probe", data)]
        for index, (path, _, _, _, load, splits) in enumerate(asked):
            reached, below = needed[2 * index], needed[2 * index + 1]
            is_least = reached is not None and reached <= splits
            is_least = is_least and (load == 0 or below is None or below > splits)
            self.found[path] = load if is_least and self.found.get(path, load) == load else None
            if path == "certificate.robust.bottleneck":
                self.found["certificate.robust.fewest"] = reached
        if robust is not None and "further" in robust:
            self._further()

    def _further(self) -> None:
        path = "certificate.robust."
        few, all_, fewest = (
            self.found[path + n] for n in ("shared_fewest", "shared_all", "fewest")
        )
        if few is None or all_ is None or fewest is None:
            return
        near = few * (len(self.bounds) - 1 + fewest) > sum(self.weights["shrunk"])
        # Plans of before 2026-11-22 spent all splits, and say of no end.
        if "end" in self.plan.certificate["robust"]["further"]:
            least = self.found["certificate.robust.bottleneck"]
            self.found[f"{path}further.end"] = None if least is None else -(-least // 2)
            all_ = max(all_, self.found[f"{path}further.end"] or 0)
        gains = near and all_ < few and few - all_ >= self.plan.limits.min_gain * few
        isolating = len(self.bounds) - len(self.route_bounds)
        made = len(self.after) - len(self.before) - isolating
        self.found[f"{path}further.shared_from"] = few
        self.found[f"{path}further.shared_to"] = all_ if gains and made else few

    def _backtest(self, path: str, tried: Backtest) -> None:
        assert tried.cuts is not None
        halves = [
            self._atoms_of(self.plan.since, tried.split_at),
            self._atoms_of(tried.split_at, self.plan.until),
        ]
        half = pa.concat_tables(
            [
                table.append_column("is_later", pa.array([later] * table.num_rows, pa.bool_()))
                for later, table in zip((False, True), halves, strict=True)
            ]
        )
        routes: list[tuple[bytes, bytes | None, bool]] = [
            (span.start, span.end, False) for span in self.before
        ]
        for span in self.before:
            inside = [cut for cut in sorted(tried.cuts) if cut in span]
            pairs = zip([span.start, *inside], [*inside, span.end], strict=True)
            routes += [(low, high, True) for low, high in pairs]
        route = relation(["route_start", "route_end", "is_after"], routes)
        [row] = figure_rows("plan_backtest", {"half": half, "route": route})
        self.found |= {f"{path}.{name}": value for name, value in row.items()}
        self.found[f"{path}.splits"] = len(tried.cuts)

    def _groups(self) -> None:
        placed = self.plan.placement
        assert placed is not None
        sizes = self._sizes()
        homes = {r.span: r.group for r in self.plan.routes_before}
        rows: list[tuple[int, int, Number | None, Number | None]] = []
        for index, route in enumerate(self.plan.routes_after):
            load = self.found[f"routes_after[{index}].load"]
            home = next(group for span, group in homes.items() if route.span.start in span)
            rows.append((home, route.group, load, load if sizes is None else sizes[index]))
        weights = {each.group: each.weight for each in placed.groups}
        names = ["group_before", "group_after", "load", "size"]
        data = {
            "placed": relation(names, rows),
            "weight": relation(["group", "weight"], weights.items()),
        }
        answer = figure_rows("plan_groups", data, {"scale": placed.scale})
        for index, row in enumerate(answer):
            self.found[f"placement.groups[{index}].before"] = row["before"]
            self.found[f"placement.groups[{index}].after"] = row["after"]
        for name, groups in (
            ("before", [row[0] for row in rows]),
            ("after", [row[1] for row in rows]),
        ):
            left = any(not weights[group] for group in groups)
            heaviest = max(row[f"{name}_weighted"] or 0 for row in answer)
            self.found[f"placement.{name}"] = None if left else heaviest
        self.found["placement.moved"] = answer[0]["moved"]
        for index, action in enumerate(self.plan.actions):
            if action.target_group is not None and sizes is not None:
                at = self.after.index(action.children[-1])
                self.found[f"actions[{index}].bytes_moved"] = sizes[at]

    def _sizes(self) -> list[int] | None:
        """Return what each route after the plan stores; None where the plan counts in load."""
        placed = self.plan.placement
        if placed is None or placed.stored is None or self.view.catalog is None:
            return None
        return list(sizes_of(self.view.catalog, placed.stored)(self.after))

    def _parts(self) -> None:
        drift = self.plan.drift
        assert drift is not None
        tables = []
        for number, part in enumerate(drift.parts):
            table = self._atoms_of(part.since, part.until)
            column = pa.array([number] * table.num_rows, pa.int64())
            tables.append(table.append_column("part", column))
        routes: list[tuple[str, bytes, bytes | None]] = [
            ("routes_before", span.start, span.end) for span in self.before
        ]
        routes += [("routes_after", span.start, span.end) for span in self.after]
        for span in self.before:
            inside = [cut for cut in drift.sum_cuts if cut in span and cut != span.start]
            pairs = zip([span.start, *inside], [*inside, span.end], strict=True)
            routes += [("sum_cuts", low, high) for low, high in pairs]
        data = {
            "part_atom": pa.concat_tables(tables),
            "route": relation(["list", "route_start", "route_end"], routes),
        }
        answer = figure_rows("plan_parts", data, {"period": drift.period or len(drift.parts)})
        newest = len(drift.parts) - len(drift.beyond)
        worst = {"routes_before": "before", "routes_after": "after", "sum_cuts": "of_sum"}
        for row in answer:
            if row["figure"] == "load":
                self.found[f"drift.parts[{row['part']}].load"] = row["load"]
            elif row["figure"] == "beyond":
                self.found[f"drift.beyond[{row['part'] - newest}]"] = row["load"]
            elif drift.period is not None:
                self.found[f"drift.worst_{worst[row['figure']]}"] = row["load"]


def _spans(names: tuple[str, str], spans: Sequence[Span]) -> pa.Table:
    return relation(list(names), [(span.start, span.end) for span in spans])
