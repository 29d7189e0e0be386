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
# # 04 · Time travel: who owned this key, and what did it hold?
#
# After an incident the questions are about the past. Which group served this key at 03:12? What
# did we believe when we approved that plan? What was the value before the bad deploy? Three
# different pasts answer them:
#
# | the past of | is told by | as of |
# |---|---|---|
# | the **routes** | every route version that was collected | a catalog version, or a time |
# | the **data** | an export with all versions of all keys | one moment (`read_ts`) |
# | the **catalog** itself | its log | a sequence, or a time |

# %%
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-time-")
folder = Path(scratch.name)
catalog = wb.open(folder / "catalog", create=True)
cluster = wb.cluster_up(folder / "cluster", nodes=1, groups=2, window="1s")
trace = wb.datasets("hot-range", out=folder, accesses=12_000).path("hot-range")

# %% [markdown]
# ## Make some history
#
# Load, a plan, a split, more load. In between, remember where the catalog stood.

# %%
with cluster.clients(trace, seconds=5):
    pass
wb.collect(cluster, catalog, cluster="shop")
before = wb.export(cluster, catalog, name="before", cluster="shop")
then = catalog.refresh()

plan = wb.plan(catalog, cluster="shop", max_splits=3)
plan.approve(by="anna")
plan.apply()
with cluster.clients(trace, seconds=3):
    pass
wb.collect(cluster, catalog, cluster="shop")

# %% [markdown]
# ## The routes as they were
#
# Every version of the routes that was collected is kept. The newest by default:

# %%
catalog.routes("shop")

# %% [markdown]
# Or an older one. Note the parents: a child's `parent_route_id` leads back to the route that was
# split, and route ids are never used again.

# %%
catalog.routes("shop", version=1)

# %% [markdown]
# Who owned a key, then and now? The package brings these queries by name; `catalog.queries()`
# lists them all, with what each takes.

# %%
key = plan[0]["split_key"]
for version in (1, plan.catalog.routes("shop")[0]["catalog_version"]):
    print(
        version,
        catalog.query("owner-at-version", cluster="shop", key=key, catalog_version=version)[0],
    )

# %% [markdown]
# ## The data as they were
#
# An export holds *every version of every key* as of one moment, read while clients go on writing.
# The one above was made before the splits; make a second one now. Look at the title: both know the
# moment to the millisecond, and the version of the routes that belongs to it.

# %%
after = wb.export(cluster, catalog, name="after", cluster="shop")
after

# %% [markdown]
# All versions of one key, newest first. `commit_ts` is a hybrid logical clock: its order is the
# order in which the writes became visible.

# %%
busiest = catalog.sql(
    'SELECT key, count(*) AS versions FROM "export/after/version" '
    "GROUP BY key ORDER BY versions DESC, key LIMIT 1"
)[0]["key"]
catalog.query("key-history", export="after", key=busiest)

# %% [markdown]
# The state of *all* keys as of a moment is one more query. With `engine="polars"` the same answer
# comes faster where there is much.

# %%
state = catalog.query("as-of", export="after", read_ts=before.read_ts, engine="polars")
state

# %% [markdown]
# This is the test that matters: the newer export, asked as of the older moment, tells what the
# older export tells. Splits in between changed who owns the keys, and not a single value.

# %%
older = catalog.query("as-of", export="before", engine="polars")
assert state.to_polars().select("key", "value").equals(older.to_polars().select("key", "value"))
len(older)

# %% [markdown]
# ## Bring it back
#
# An export restores into an *empty* cluster: history, owners and routes. Nothing is served before
# all of it is there, and every row is compared at the end.

# %%
with wb.cluster_up(folder / "second", nodes=1, groups=2, window="1s") as second:
    print(wb.restore("before", second, catalog, dry_run=True))
    restored = wb.restore("before", second, catalog, check=True)
restored

# %% [markdown]
# ## The catalog as it was
#
# What did *we* know then? `at` takes a sequence or a time, and gives the catalog as it was: the
# same questions, the old answers. It can only be read.

# %%
past = catalog.at(then)
print(past, len(past.plans()), "plans then,", len(catalog.plans()), "now")
past.routes("shop")

# %%
wb.hot(past, cluster="shop")

# %%
assert len(past.routes("shop")) == 2
assert len(catalog.routes("shop")) == 2 + len(plan)
assert restored.new_rows == len(catalog.read(before.versions))
cluster.down()
scratch.cleanup()
