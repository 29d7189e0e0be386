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
# # 07 · Point it at a real cluster
#
# So far the load was ours. This notebook is the one to copy for yours. **What to change** is one
# line: the URL in the next cell, or the variable `WORKBENCH_TARGET` in the environment. As it
# stands, a bundled node plays the part of the real cluster, so that the notebook runs by itself.
#
# What differs between systems is what they *can do*. The workbench asks, and offers nothing that
# the system cannot do: where load is not told, nothing is hot; where a key cannot be chosen,
# nothing is split.

# %%
import os
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-real-")
folder = Path(scratch.name)

target = os.environ.get("WORKBENCH_TARGET")  # or: target = "node://10.0.0.1:7001,10.0.0.2:7001"
stand_in = None
if target is None:
    stand_in = wb.cluster_up(folder / "cluster", nodes=1, groups=4, window="1s")
    target = stand_in.url
    print("no WORKBENCH_TARGET: a bundled node stands in")

# %% [markdown]
# ## Which systems can be reached?
#
# A connector is a package; `problem` says why one cannot be loaded. Some only read, and that is
# enough for looking and planning.

# %%
wb.connectors()

# %% [markdown]
# ## What can this one do?
#
# Connecting only reads. Look for three things: `load` (does it measure?), `split` (can a key be
# chosen?) and `compare_and_set` (can a split be bound to the version that was planned on?).

# %%
cluster = wb.connect(target)
cluster.capabilities

# %%
cluster.routes()

# %% [markdown]
# ## Collect, and keep collecting
#
# In production this runs beside you: `workbench collect URL --every 60s` in a terminal, or the
# loop below. Each round adds what is new. A cluster that does not answer for a while is no error,
# only a gap, and a gap is said and never filled with zeros.
#
# Keep the catalog where others see it too: `wb.open("s3://…")`. The name, here `prod`, belongs to
# this very cluster from then on; windows of another one under it are refused.

# %%
catalog = wb.open(folder / "catalog", create=True)
if stand_in is None:
    wb.collect(cluster, catalog, cluster="prod")
else:
    trace = wb.datasets("hot-range", out=folder, accesses=20_000).path("hot-range")
    with stand_in.clients(trace, seconds=7):
        for round_ in wb.follow(cluster, catalog, cluster="prod", every="2s", times=4):
            print(round_.title if isinstance(round_, wb.Collection) else f"no answer: {round_}")

# %% [markdown]
# What was assumed on the way is stored with the data. Read it once: it tells whether load was
# counted or sampled, and what was not measured at all.

# %%
catalog.properties("prod/load_window")

# %% [markdown]
# ## Look, then plan
#
# Choose the threshold for your machines. It is the load a minute that *one* route may carry
# before you want to be called.

# %%
wb.hot(catalog, cluster="prod", threshold=50_000)

# %%
wb.heatmap(catalog, cluster="prod")

# %% [markdown]
# Begin with few splits and a high `min_gain`: a plan that proposes nothing is a good answer too.

# %%
plan = wb.plan(catalog, cluster="prod", max_splits=4, min_gain=0.2)
plan

# %% [markdown]
# ## Before anything is changed
#
# The literal calls. Hand this to whoever runs the cluster; nothing has been sent. This is where
# the notebook stops for a cluster of yours: `plan.approve(...)` and `plan.apply()` are lines that
# you add on purpose. `docs/applying.md` says call by call what happens then, and what to do when
# it did not end as hoped (in short: run the same line again).

# %%
plan.apply(dry_run=True)

# %%
if stand_in is not None:
    plan.approve(by="anna")
    print(plan.apply())

# %% [markdown]
# ## When something goes wrong
#
# Every error is of one tree and says what to do: a stable `code`, a `message` with the value, and
# a `hint`. `retryable` tells whether the same call may succeed later.

# %%
try:
    wb.connect("node://127.0.0.1:1").routes()
except wb.Unavailable as error:
    print(error.code, "|", error.message, "|", error.hint, "| retryable:", error.retryable)

# %%
cluster.close()
if stand_in is not None:
    stand_in.down()
scratch.cleanup()
