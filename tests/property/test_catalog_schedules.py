"""Any seed is a sound schedule of writers on a failing store; and a model of the registry.

The schedules, what must hold in them, and the faults planted to prove it, are in `workbench.sim`
and `tests/sim`; here Hypothesis chooses the seeds.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_catalog_faults import create, reopen

from workbench.catalog.catalog import Registration
from workbench.errors import FingerprintConflict
from workbench.model.manifest import ObjectRef, dataset_id_of
from workbench.sim.catalog_world import play
from workbench.stores.memory import MemoryStore


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_no_schedule_of_any_seed_breaks_an_invariant(seed):
    assert play(seed).violation is None


# --- the registry against a dict


NAMES = st.sampled_from(["a", "b", "c/d", "c/e"])
OBJECTS = st.lists(
    st.builds(
        ObjectRef,
        key=st.sampled_from(["k1", "k2", "k3"]),
        size=st.integers(0, 3),
        sha256=st.none() | st.sampled_from(["a" * 64, "b" * 64]),
    ),
    max_size=2,
).map(tuple)
REGISTRATIONS = st.builds(
    Registration,
    name=NAMES,
    schema_fingerprint=st.sampled_from(["f1", "f2"]),
    objects=OBJECTS,
    row_count=st.none() | st.integers(0, 3),
    properties=st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=3), max_size=2),
)
BATCHES = st.lists(REGISTRATIONS, max_size=3, unique_by=lambda r: r.name)


@given(batches=st.lists(st.tuples(BATCHES, st.integers(0, 1)), max_size=8))
@settings(deadline=None, max_examples=80)
def test_catalog_does_what_a_dict_would_and_rehydrates_equal(batches):
    store = MemoryStore()
    writers = [create(store), reopen(store, seed=2)]
    model: dict[str, Registration] = {}
    for batch, who in batches:
        conflict = any(
            r.name in model and model[r.name].schema_fingerprint != r.schema_fingerprint
            for r in batch
        )
        seq = reopen(store).seq
        if conflict:
            with pytest.raises(FingerprintConflict):
                writers[who].register(batch)
            assert reopen(store).seq == seq
        else:
            answers = writers[who].register(batch)
            assert [a.existing for a in answers] == [r.name in model for r in batch]
            assert reopen(store).seq == seq + any(a.written for a in answers)
            for registration, answer in zip(batch, answers, strict=True):
                if answer.written:
                    model[registration.name] = registration
        again = reopen(store)
        writers[who].refresh()
        assert writers[who].list() == again.list()
    expected = [
        (dataset_id_of(n), n, r.schema_fingerprint, r.objects, r.row_count, dict(r.properties))
        for n, r in sorted(model.items())
    ]
    found = [
        (m.dataset_id, m.name, m.schema_fingerprint, m.objects, m.row_count, m.properties)
        for m in reopen(store).list()
    ]
    assert found == expected
