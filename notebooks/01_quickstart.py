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
# # 01 · Quickstart: the whole loop in under two minutes
#
# A store that is sharded by key range is only as fast as its busiest range. When one range takes
# most of the load, you want to know four things before you touch it: *which* range, *where* to
# split it, *how much* that can help at best, and afterwards *whether it did*.
#
# This notebook goes through all of it against a real cluster: three nodes on this machine, with
# logs on disk and clients that write while the splits are made. Nothing needs to be installed or
# running. Run the cells from top to bottom; together they take about half a minute.

# %%
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-quickstart-")
folder = Path(scratch.name)

# %% [markdown]
# ## 1. A cluster, and something to do for it
#
# `wb.cluster_up` starts the bundled nodes and returns when every group serves. Load is counted in
# windows; they last a minute unless you say otherwise, and a window has to close before it can be
# collected. One second is short, and right for a first look.
#
# The load comes from a generated set: 4 % of its keys take some 60 % of the accesses.

# %%
cluster = wb.cluster_up(folder / "cluster", nodes=3, groups=4, window="1s")
trace = wb.datasets("hot-range", out=folder, accesses=40_000).path("hot-range")
cluster.routes()

# %% [markdown]
# Four routes, cut evenly over all byte strings. That is how it goes wrong in practice: real keys
# share a prefix, so *all* of them lie in one route. Let clients make the set's accesses, two hours
# of recorded time squeezed into seven seconds.

# %%
with cluster.clients(trace, seconds=7) as clients:
    clients.wait()
clients.made()

# %% [markdown]
# ## 2. Collect
#
# Everything that follows reads from a *catalog*: a folder here, a bucket in production. It holds
# load windows, routes, plans, approvals and receipts, and it is all there is: no server, no
# database. Collecting again adds what is new; nothing is ever made up for a gap.

# %%
catalog = wb.open(folder / "catalog", create=True)
wb.collect(cluster, catalog, cluster="shop")

# %% [markdown]
# ## 3. Look
#
# First the picture: time runs to the right, keys run down, brightness is load. Point at a cell to
# read it exactly. Look for a bright band that stays: that is what a split can help against.

# %%
wb.heatmap(catalog)

# %% [markdown]
# Then the verdicts, one per route. `hot` means that the load reached the threshold in three
# windows in a row, up to the last; every verdict carries its reason.

# %%
wb.hot(catalog)

# %% [markdown]
# ## 4. Plan
#
# `wb.plan` proposes split keys. Look at three numbers: what the hottest route carries now, what it
# will carry after the plan, and the **bound**, which is the least that as many splits can reach
# wherever one cuts. The plan carries the proof, and `pareto` says what fewer splits would buy.

# %%
plan = wb.plan(catalog, max_splits=6)
plan

# %%
plan.pareto

# %% [markdown]
# ## 5. Approve and apply
#
# Nothing happens without an approval. It is recorded in the catalog with who, when and the plan's
# hash; a plan that was changed afterwards is refused. `dry_run` shows the literal calls first.

# %%
plan.approve(by="anna")

# %%
plan.apply(dry_run=True)

# %% [markdown]
# Now for real, *while clients write*. Each split is bound to the version that it was planned for
# and is made at most once; were this kernel killed half-way, the same line would go on where it
# stopped. There is no merge and no undo of a split, here or in the stores that we know.

# %%
with cluster.clients(trace, seconds=8) as clients:
    applied = plan.apply()
applied

# %% [markdown]
# ## 6. Did it help?
#
# The honest question. Collect what came since, and hold it against the forecast. Look at the first
# line: *the forecast held* means that the hottest route carries what the plan promised, on load
# that the plan had not seen.

# %%
wb.collect(cluster, catalog, cluster="shop")
verification = wb.verify(plan)
verification

# %% [markdown]
# And the other promise, that no acknowledged write was lost on the way. All of them are read
# again; `lost` must be 0.

# %%
checked = clients.check()
checked

# %%
assert verification.share_after < verification.share_before / 2
assert checked[0]["lost"] == 0

# %% [markdown]
# ## 7. For the record
#
# The report is one HTML file that opens offline: heat before and after, the plan with its proof,
# every call, forecast and outcome. Attach it to the incident.

# %%
plan.report(folder / "report.html")

# %% [markdown]
# The same five steps, joined in one widget: brush the heatmap, and table and proposal follow;
# approve with a button, and watch the jobs. It is rebuilt from the catalog, so a reload of the
# page loses nothing.

# %%
wb.workbench(catalog, by="anna")

# %% [markdown]
# Stop the nodes and remove the files. In your own work you would keep both.

# %%
cluster.down()
scratch.cleanup()

# %% [markdown]
# **Where to go on:** `02` reads heat more closely, `03` is about review and approval, `04` looks
# into the past, `05` keeps the catalog in a bucket, `06` compares policies on a trace, and `07`
# points all of this at a cluster of yours.
