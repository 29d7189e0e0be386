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
# # 02 · Find hotspots: is it a range, a key, or a moment?
#
# A bright spot on a heatmap can mean three different things, and only one of them is mended by a
# split:
#
# - a **range** that is hot all the time: a split helps, and the plan says how much;
# - a **single key**: no split makes its route lighter than the key;
# - a **moment**: the load moves on before a split has paid for itself.
#
# This notebook looks at one generated set of each kind. They are models with a known answer, so
# you can check what the tool tells you. No cluster is needed: recorded accesses are enough.

# %%
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-hotspots-")
folder = Path(scratch.name)
catalog = wb.open(folder / "catalog", create=True)

made = wb.datasets("hot-range", "hot-key", "oscillating", out=folder, accesses=15_000)
for name in ("hot-range", "hot-key", "oscillating"):
    wb.collect(made.path(name), catalog, routes=8)
catalog.clusters

# %% [markdown]
# ## What is stored
#
# A load window says how often each *bucket* (a part of a route) was read and written in a minute.
# **Null means not measured, never zero**, and a row that is missing is not an idle bucket. Keep
# this in mind whenever you sum: SQL's `sum` skips nulls, and then "cold" may only mean "unseen".

# %%
catalog.load("hot-range", until="2%")

# %% [markdown]
# ## A range that is hot all the time
#
# Start with the picture. Two things to look for: how *high* the bright band is (its share of the
# keys) and how *long* (its share of the time).

# %%
wb.picture(catalog, cluster="hot-range")

# %% [markdown]
# The widget shows the same with exact values under the pointer. Brush a part of it, and
# `brushed_spans()` gives the keys for your next question.

# %%
heat = wb.heatmap(catalog, cluster="hot-range", series="reads")
heat

# %% [markdown]
# Now the verdicts. The default threshold is that of a large store: 50,000 a minute by *score*,
# which counts a write as four reads. These sets are small, so say what is hot for *you*. A route
# is hot when it stays over the threshold for three windows in a row, up to the last one.

# %%
found = wb.hot(catalog, cluster="hot-range", threshold=60)
found

# %% [markdown]
# An answer is a table: it goes into Polars, pandas or DuckDB without a copy of ours.

# %%
found.to_polars().select("route_id", "verdict", "share", "per_minute", "reasons").head(3)

# %% [markdown]
# Which keys carry much of the hot route? For a hot *range* the answer is: none does.

# %%
found.keys

# %% [markdown]
# ## A single key
#
# The same question for the second set. One key now carries most of its route.

# %%
wb.hot(catalog, cluster="hot-key", threshold=60).keys

# %% [markdown]
# So what would a plan do? It gives the key a route of its own, because then the *rest* no longer
# waits for it. And it says plainly what no split can change: look for the line "no split makes its
# route lighter than that". If you need more, the remedy is in the application: cache the key,
# or spread it over several.

# %%
wb.plan(catalog, cluster="hot-key", until="50%", max_splits=4)

# %% [markdown]
# ## A moment
#
# In the third set the load changes sides every two minutes. Over two hours both sides look busy;
# minute by minute only one of them is.

# %%
wb.picture(catalog, cluster="oscillating", until="25%")

# %%
wb.hot(catalog, cluster="oscillating", threshold=60)

# %% [markdown]
# Nothing is hot for three windows in a row, and you are told so, with the peak and its time. The
# threshold asks "should somebody be paged?". Whether a split is *worth* it is another question,
# the plan's, and it may well say yes where `hot` says no.
#
# ## Your own questions
#
# Every dataset is a table for DuckDB's SQL, its name in double quotes. Values are bound, and
# nothing but the catalog can be read.

# %%
catalog.sql(
    """
    SELECT time_bucket(INTERVAL 10 MINUTE, window_start) AS since,
           sum(reads) AS reads, sum(writes) AS writes,
           count(*) FILTER (reads IS NULL) AS not_measured
    FROM "oscillating/load_window"
    WHERE bucket_start >= $first
    GROUP BY ALL ORDER BY since
    """,
    first=b"user/0000500000",
)

# %%
assert found.hot
assert not wb.hot(catalog, cluster="oscillating", threshold=60).hot
scratch.cleanup()
