# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · What if: a trace under rival policies
#
# Every store has a rule for where to split: the median, a sampled key, a bucket's border. Which is
# good for *your* load? Fitting the past proves nothing: any rule looks good on the data that it
# was made from. So the comparison here is always **plan on the first half, judge on the second**.
#
# The rivals are re-implementations of published rules, not the systems they come from: what they
# do *not* model is listed in `docs/policies.md`.

# %%
import tempfile
from pathlib import Path

import polars as pl

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-what-if-")
folder = Path(scratch.name)
catalog = wb.open(folder / "catalog", create=True)
made = wb.datasets("hot-range", "diurnal", "moving-front", out=folder, accesses=12_000)
for name in ("hot-range", "diurnal", "moving-front"):
    wb.collect(made.path(name), catalog, routes=8)

# %% [markdown]
# ## Side by side
#
# Each policy starts from one route over everything and cuts it into as many as asked for. The
# column that counts is the last: how many times the mean the hottest route carried, on load that
# nobody had seen. 1 is even, 2 means that one route works twice as hard as it should.

# %%
rivals = wb.compare(catalog, cluster="hot-range", routes=[6, 12])
rivals

# %% [markdown]
# A frame makes it readable: policies down, numbers of routes across. `none` shows what doing
# nothing costs.


# %%
def by_routes(rivals: wb.Comparison) -> pl.DataFrame:
    """One row per policy, one column per number of routes."""
    frame = rivals.to_polars()
    return frame.pivot("routes", index="name", values="heldout_max_over_mean").sort("6")


by_routes(rivals)

# %% [markdown]
# `over_optimum` in the first table is hindsight: `exact` is at 0 there *by construction*. Compare
# it with the held-out column to see how little that says.
#
# ## Load with a rhythm
#
# Day and night differ in this set. Whoever plans on the sum over a whole day hides the worse phase
# behind the better one.

# %%
by_routes(wb.compare(catalog, cluster="diurnal", routes=[6, 12]))

# %% [markdown]
# ## Load that runs away
#
# Keys that only ever grow: the load is always at the end, where no cut from the past can be. Look
# at how close every rule comes to `none`. No choice of split keys mends this; hashing a prefix of
# the key does.

# %%
by_routes(wb.compare(catalog, cluster="moving-front", routes=[6, 12]))

# %% [markdown]
# ## One plan, replayed
#
# A plan of the workbench starts from the cluster's *own* routes and says how sure it is. `replay`
# counts every later access on the route that would own it. Nothing is executed.

# %%
plans = {
    policy: wb.plan(catalog, cluster="hot-range", until="50%", max_splits=6, policy=policy)
    for policy in ("robust", "exact")
}
for policy, plan in plans.items():
    seen = plan.replay()
    print(
        f"{policy:7} promised {seen.share_forecast:.1%}, came {seen.share_after:.1%} "
        f"({seen.share_before:.1%} without), drift {seen.drift:.1%}: {seen.outcome}"
    )

# %% [markdown]
# Over time, window by window: a good plan lowers the *worst* minute, not only the mean.

# %%
windows = plans["robust"].replay().by_window().to_polars()
windows.select("share_before", "share_after").describe()

# %% [markdown]
# And the front? Here the plan itself warns before anybody approves it: read the lines below its
# table. At most it gives what comes next a route of its own. The replay says whether the warning
# was right; `drift` is the share of the load that came on other routes than forecast.

# %%
front = wb.plan(catalog, cluster="moving-front", until="50%", max_splits=6)
front

# %%
replayed = front.replay()
print(replayed.outcome, f"drift {replayed.drift:.1%}")

# %%
held = {row["name"]: row["heldout_max_over_mean"] for row in rivals if row["routes"] == 12}
assert held["robust"] < held["none"]
assert replayed.drift > 0.5
scratch.cleanup()
