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
# # 05 · The catalog in a bucket: nothing else to keep
#
# Where does a tool like this keep its state? Usually in a database that somebody has to run, back
# up and upgrade. Here the catalog *is* the bucket: Parquet objects and a log of small records,
# each of which is created at most once. That one promise of the store, put-if-absent, is all that
# writers share. So:
#
# - any number of people and jobs write at once, without a lock;
# - a machine that is lost loses nothing: open the bucket elsewhere and go on (*rehydration*);
# - opening costs a handful of requests, however much is in it.
#
# ## A bucket to try it with
#
# For this notebook an S3 server runs inside the kernel, on loopback, if `moto` is installed; it
# comes with the development tools. Where it is not, a local folder takes the bucket's place, and
# every line below works just the same: only the URL differs.

# %%
import http.client
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-bucket-")
folder = Path(scratch.name)
try:
    from moto.server import ThreadedMotoServer
except ImportError:
    server = None
    url = str(folder / "bucket" / "orders")
    print("moto is not installed: using the folder", url, "in the place of a bucket")
else:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would list every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "example",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_REGION": "us-east-1",
    }
    console = http.client.HTTPConnection(*server.get_host_and_port())
    console.request("PUT", "/workbench")  # makes the bucket
    console.getresponse().read()
    console.close()
    url = "s3://workbench/orders"
url

# %% [markdown]
# With a real bucket you need none of this: credentials and region come from the usual `AWS_…`
# variables or your profile, and never stand in the URL, because URLs end up in logs.
#
# ## Create and fill
#
# Before a catalog is created, the store is *probed*: a fresh key is put twice, and the second put
# must be refused, also by eight threads at once. A store that would lose commits is refused here,
# not in a month.

# %%
catalog = wb.open(url, create=True)
trace = wb.datasets("zipf", out=folder, accesses=5_000).path("zipf")
wb.collect(trace, catalog, cluster="orders", routes=8)

# %%
plan = wb.plan(catalog, until="50%", max_splits=4)
plan.approve(by="anna")

# %%
catalog.datasets()

# %% [markdown]
# ## Rehydration
#
# Now forget everything. Another process, which has never seen this notebook, opens the bucket and
# finds load, routes, plan and approval. Nothing was exported and nothing was copied: what you hold
# in memory is only ever a cache.

# %%
elsewhere = """
import sys
import workbench as wb
catalog = wb.open(sys.argv[1])
plan = wb.find_plan(sys.argv[2], catalog)
print(catalog.clusters, len(plan), "splits,", len(plan.approved), "approved")
print(plan.approvals()[0]["by"], "| came:", f"{wb.verify(plan).share_after:.1%}")
"""
told = subprocess.run(
    [sys.executable, "-c", elsewhere, url, plan.plan_id],
    capture_output=True,
    text=True,
    check=True,
)
print(told.stdout)

# %% [markdown]
# ## Several writers
#
# Two catalogs in two hands, one bucket. Each commit is one object that only one of them can
# create; who comes second reads what the first did and tries the next number. So there are no
# lost updates, and each sees the other's work with the next question.

# %%
mine, theirs = wb.open(url), wb.open(url)
wb.plan(theirs, until="50%", max_splits=2, backtest=False)
wb.plan(mine, until="50%", max_splits=1, backtest=False)
assert [*mine.plans()] == [*theirs.plans()]
mine.plans()

# %% [markdown]
# ## Ask the bucket
#
# SQL runs where you are, over Parquet in the bucket; every page is checked against its checksum on
# the way. For frames there is `read`.

# %%
mine.sql(
    'SELECT op, count(*) AS accesses, count(DISTINCT key) AS keys FROM "orders/access" '
    "GROUP BY op ORDER BY op"
)

# %% [markdown]
# What was it like before the plans? `at` reads the log up to there.

# %%
past = mine.at(1)
[row["name"] for row in past.datasets()]

# %%
assert f"{len(plan)} approved" in told.stdout
assert len(past.plans()) == 0
if server is not None:
    server.stop()
scratch.cleanup()

# %% [markdown]
# **Also in a bucket:** Google Cloud (`gs://`) and Azure (`az://`) by their own packages; the probe
# decides whether a store will do. `docs/stores.md` has the table, `docs/catalog.md` what upkeep
# there is (`compact`, `expire`, `gc`).
