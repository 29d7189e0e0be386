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
# # 03 · Plan, review, approve, apply
#
# A split cannot be taken back: there is no merge. So the interesting part is not the button, it
# is what you look at before you press it. This notebook reviews a plan the way you would review a
# change to code: what does it do, why these keys, what was *not* done and why, who agrees, and
# what exactly will be called.

# %%
import tempfile
from pathlib import Path

import workbench as wb

scratch = tempfile.TemporaryDirectory(prefix="workbench-review-")
folder = Path(scratch.name)
cluster = wb.cluster_up(folder / "cluster", nodes=1, groups=4, window="1s")
trace = wb.datasets("hot-range", out=folder, accesses=25_000).path("hot-range")
catalog = wb.open(folder / "catalog", create=True)
with cluster.clients(trace, seconds=6):
    pass
wb.collect(cluster, catalog, cluster="shop")

# %% [markdown]
# ## The proposal
#
# One row per split, in the order in which they will be made. `parent`, `left` and `right` are
# shares of all load; `hottest share after` is where the hottest route stands once this step is
# done. Below the table: what robustness costs, how such a forecast fared in a back-test, and which
# routes were left alone.

# %%
plan = wb.plan(catalog, max_splits=6)
plan

# %% [markdown]
# **Why these keys?** Each action's loads can be computed anew from the catalog by SQL. The column
# `holds` compares with what the plan states.

# %%
plan.explain("split-001")

# %% [markdown]
# **Would fewer do?** The least possible for every number of splits. Where the curve goes flat,
# further splits buy nothing.

# %%
plan.pareto

# %% [markdown]
# **What was not done?** Every route that is left alone is listed with the reason. "It has no load"
# and "no split would help" are very different answers.

# %%
plan.declined

# %% [markdown]
# ## Limits are part of the question
#
# Perhaps one range is off limits this week, or every route costs memory. Say so, and the proof
# holds *under* these limits: it is the least that anybody reaches who keeps to them. A limit that
# cannot be met is an error that names it, never a plan that ignores it.

# %%
narrow = wb.plan(
    catalog, max_splits=4, min_gain=0.2, forbid=[("user/0000400000", "user/0000430000")]
)
narrow

# %% [markdown]
# The same load under the same limits gives the same plan, byte for byte, on any machine. Its id is
# the beginning of its hash, so two people who see the same id see the same plan.

# %%
assert wb.plan(catalog, max_splits=6).plan_id == plan.plan_id

# %% [markdown]
# ## Review in the widget
#
# Evidence, before and after on one colour scale, bound and forecast, with buttons to approve or
# reject each action. What you do there is recorded exactly as below.

# %%
wb.workbench(catalog, plan=plan, by="anna")

# %% [markdown]
# ## Approve a part
#
# The second split cuts a route that only the first one makes. Approved alone it could never be
# executed, so that is refused, and the hint says what is missing.

# %%
try:
    plan.approve("split-002", by="anna")
except wb.InvalidArgument as error:
    print(error.code, "|", error.hint)

# %% [markdown]
# Anna agrees to the first three.

# %%
first = [row["id"] for row in plan][:3]
plan.approve(*first, by="anna")

# %% [markdown]
# Bert takes one back. Nothing is overwritten: the history of decisions stays.

# %%
plan.withdraw(first[-1], by="bert")
plan.approvals()

# %% [markdown]
# ## Or let a policy decide
#
# For nightly runs, limits can be written down once. A policy approves a plan as a whole or not at
# all, in its own name, and says which limit is broken.

# %%
policy = folder / "nightly.toml"
policy.write_text('name = "nightly"\nmax_splits = 4\nmin_gain = 0.3\n')
plan.approve(policy=policy, dry_run=True)

# %% [markdown]
# ## Apply
#
# First the literal calls, as they would be sent. Look at `expected_catalog_version`: each call is
# bound to the version that its predecessor leaves. Should somebody else change the routes in
# between, nothing is split on a wrong assumption; you are told to plan again.

# %%
plan.apply(dry_run=True)

# %% [markdown]
# Now the approved ones. What is not approved is skipped, and said to be.

# %%
plan.apply(by="anna")

# %% [markdown]
# Applying again makes nothing twice: it looks first. That is also what you do after a crash.

# %%
again = plan.apply(by="anna")
again

# %%
plan.approve(by="bert")
done = plan.apply(by="bert")
assert len(done.applied) == len(plan)
plan.jobs()

# %% [markdown]
# ## Afterwards
#
# Let load come, collect, and compare with the forecast. `execution` says whether this is what
# came, or only what would have come.

# %%
with cluster.clients(trace, seconds=4):
    pass
wb.collect(cluster, catalog, cluster="shop")
verification = wb.verify(plan)
print(verification.outcome, verification.execution)
verification

# %% [markdown]
# A plan that was executed cannot be approved any more: the routes are no longer those that it was
# made for. The catalog knows, and says so.

# %%
try:
    plan.approve(by="anna")
except wb.Conflict as error:
    print(error.code, "|", error.hint)

# %%
assert verification.execution == "applied"
cluster.down()
scratch.cleanup()
