"""Takes a catalog of the old layout over into this one.

    source store ── manifests, all or none ──> objects there, of the right size?
                                                 │
       same root: referred to where they lie <───┴───> elsewhere: copied, hashed
                                                 │
                          catalog <── one record per some thousand datasets

Rules:

- Everything is read and checked before anything is written.
- A copy's key follows from the source and the object's key there, so an import that was
  interrupted goes on where it was: what is there is compared, not written again.
- The catalog is opened before the first copy is made or looked at, so its next commit reads what
  garbage collection has decided since: a copy that was taken meanwhile is refused, not lost.
- A second import of the same writes nothing. A dataset that the catalog holds already and that
  says something else is never overwritten (Conflict).
- The catalog sets the times of a registration itself. Those of the old layout are kept as the
  properties `legacy_created_at` and `legacy_updated_at`.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workbench.catalog.layout import DATA_PREFIX, data_key
from workbench.catalog.legacy import missing_objects, raise_problems, read_legacy, scan_legacy
from workbench.catalog.values import Problem, Registration
from workbench.errors import Conflict, NotFound
from workbench.model.times import rfc3339
from workbench.report.words import counted
from workbench.session.progress import silent
from workbench.session.wiring import open_catalog
from workbench.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.catalog.catalog import Catalog
    from workbench.catalog.legacy import Legacy
    from workbench.model.manifest import Manifest, ObjectRef
    from workbench.ports.object_store import ObjectStore
    from workbench.session.progress import Progress

# What a record holds is bounded by its bytes; these are what rows take in it at most.
RECORD_BYTES: Final = 700_000
DATASET_BYTES: Final = 160
OBJECT_BYTES: Final = 120
LISTED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        source: URL of the old catalog's store.
        catalog: URL of this catalog's store.
        names: All datasets of the old catalog, ascending.
        written: Those of them that were not there yet.
        records: Written to the log.
        referenced: Objects that stay where they are.
        copied: Objects that were copied.
        copied_bytes: Of them.
        found: Copies that were there from an earlier import.
        unknown_columns: Of the old manifests; not imported.
        unknown_keys: Below the old manifests; not imported.
        dry_run: Whether nothing was written.
    """

    source: str
    catalog: str
    names: tuple[str, ...]
    written: tuple[str, ...]
    records: int
    referenced: int
    copied: int
    copied_bytes: int
    found: int
    unknown_columns: tuple[str, ...]
    unknown_keys: tuple[str, ...]
    dry_run: bool


def import_legacy(
    source_url: str,
    catalog_url: str,
    *,
    check: bool = True,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Import the old catalog at `source_url` into the catalog at `catalog_url`.

    Args:
        source_url: Where `_catalog/manifests/` is; may be the catalog's own root.
        catalog_url: An existing catalog.
        check: Look first whether all objects are there, with their sizes. Objects that are copied
            are looked at in any case.
        dry_run: Read and check all, and write nothing.
        progress: Told of objects copied.

    Raises:
        NotFound: `legacy_catalog_absent`, `catalog_absent`, `store_absent`.
        Corruption: `legacy_manifest_corrupt`, which lists all manifests, or all objects, that
            are not sound.
        Conflict: `import_dataset_differs`, which lists the datasets that the catalog holds with
            other content; FingerprintConflict for one that came meanwhile.
    """
    catalog = open_catalog(catalog_url)
    source = open_store(source_url, create=False)
    return import_from(source, catalog, check=check, dry_run=dry_run, progress=progress)


def import_from(
    source: ObjectStore,
    catalog: Catalog,
    *,
    check: bool = True,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Import the old catalog in `source`; see `import_legacy`."""
    progress("reading manifests", 0, None)
    legacy = _read(source, check=check)
    in_place = source.url == catalog.store.url
    planned = [_planned(manifest, source, in_place=in_place) for manifest in legacy.manifests]
    fresh = _fresh(catalog, planned)
    copies, written, records = _Copies(source, catalog.store), [each.name for each in fresh], 0
    if not dry_run:
        if not in_place:
            fresh = copies.make(legacy, fresh, progress)
        records, written = _register(catalog, fresh)
    objects = sum(len(registration.objects) for registration in fresh)
    return Imported(
        source=source.url,
        catalog=catalog.store.url,
        names=tuple(manifest.name for manifest in legacy.manifests),
        written=tuple(sorted(written)),
        records=records,
        referenced=objects if in_place else 0,
        copied=copies.copied,
        copied_bytes=copies.copied_bytes,
        found=copies.found,
        unknown_columns=legacy.unknown_columns,
        unknown_keys=legacy.unknown_keys,
        dry_run=dry_run,
    )


def _read(source: ObjectStore, *, check: bool) -> Legacy:
    """Return the old catalog; all that is wrong is told at once: manifests and their objects."""
    found = scan_legacy(source)
    missing = missing_objects(source, found.manifests) if check else []
    if not found.problems:
        legacy = found if found.manifests else read_legacy(source)  # raises: there is none
        _raise_missing(missing, legacy)
        return legacy
    manifests = f"of {counted(len(found.manifests) + len(found.problems), 'manifest')}"
    if not missing:
        raise_problems(found.problems, manifests)
    raise_problems(
        [*found.problems, *missing],
        f"problems ({len(found.problems)} {manifests}, {len(missing)} of their objects)",
    )
    raise AssertionError("problems that are none")


def _planned(manifest: Manifest, source: ObjectStore, *, in_place: bool) -> Registration:
    """Return the registration of one dataset, its objects where they are going to be."""
    objects = manifest.objects
    if not in_place:
        objects = tuple(replace(ref, key=_copy_key(manifest, ref, source)) for ref in objects)
    return Registration(
        name=manifest.name,
        schema_fingerprint=manifest.schema_fingerprint,
        objects=objects,
        row_count=manifest.row_count,
        properties={
            "legacy_created_at": rfc3339(manifest.created_at),
            "legacy_updated_at": rfc3339(manifest.updated_at),
        },
    )


def _copy_key(manifest: Manifest, ref: ObjectRef, source: ObjectStore) -> str:
    txn = uuid.uuid5(manifest.dataset_id, f"import\n{source.url}\n{ref.key}")
    return data_key(manifest.dataset_id, txn, 0)


def _fresh(catalog: Catalog, planned: Sequence[Registration]) -> list[Registration]:
    """Return what the catalog does not hold yet.

    Raises:
        Conflict: `import_dataset_differs`.
    """
    held = {manifest.name: manifest for manifest in catalog.list()}
    fresh, others = [], []
    for registration in planned:
        manifest = held.get(registration.name)
        if manifest is None:
            fresh.append(registration)
        elif not _is_imported(manifest, registration):
            others.append(registration.name)
    if others:
        more = f" and {len(others) - LISTED_MAX} more" if len(others) > LISTED_MAX else ""
        raise Conflict(
            f"the catalog holds {', '.join(others[:LISTED_MAX])}{more} with other content than "
            "the one to import",
            code="import_dataset_differs",
            hint="import into another catalog, or remove these from one of the two",
        )
    return fresh


def _is_imported(manifest: Manifest, registration: Registration) -> bool:
    return (
        manifest.schema_fingerprint == registration.schema_fingerprint
        and [(ref.key, ref.size) for ref in manifest.objects]
        == [(ref.key, ref.size) for ref in registration.objects]
        and manifest.row_count == registration.row_count
        and dict(manifest.properties) == dict(registration.properties)
    )


class _Copies:
    """Copies objects from one store to another, as far as they are not there.

    Attributes:
        copied: Objects written.
        copied_bytes: Of them.
        found: Objects that were there.
    """

    def __init__(self, source: ObjectStore, target: ObjectStore) -> None:
        self.copied = 0
        self.copied_bytes = 0
        self.found = 0
        self._source = source
        self._target = target
        self._there: set[str] = set()
        self._problems: list[Problem] = []

    def make(
        self, legacy: Legacy, fresh: Sequence[Registration], progress: Progress
    ) -> list[Registration]:
        """Copy the objects of what is to be registered; return it with their hashes.

        Raises:
            Corruption: `legacy_manifest_corrupt`, which lists all objects that could not be
                copied. Nothing refers to those that were.
        """
        old = {manifest.name: manifest for manifest in legacy.manifests}
        sizes = {ref.key: ref.size for each in fresh for ref in each.objects}
        for registration in fresh:
            folder = f"{DATA_PREFIX}{old[registration.name].dataset_id}/"
            entries = self._target.list_entries(folder)
            self._there |= {each.key for each in entries if sizes.get(each.key) == each.size}
        done, hashed = 0, []
        for registration in fresh:
            refs = []
            pairs = zip(old[registration.name].objects, registration.objects, strict=True)
            for before, after in pairs:
                progress("copying objects", done, len(sizes))
                refs.append(self._copy(before, after))
                done += 1
            hashed.append(replace(registration, objects=tuple(refs)))
        progress("copying objects", done, len(sizes))
        _raise_missing(self._problems, legacy)
        return hashed

    def _copy(self, old: ObjectRef, ref: ObjectRef) -> ObjectRef:
        """Copy one object; return its reference with the hash of what lies there now."""
        try:
            data = self._source.get(old.key)
        except NotFound:
            return self._bad(old, ref, "is missing")
        if len(data) != old.size:
            size = counted(len(data), "byte")
            return self._bad(old, ref, f"has {size}, its manifest says {old.size}")
        if ref.key not in self._there and self._target.put_if_absent(ref.key, data):
            self.copied += 1
            self.copied_bytes += len(data)
        elif self._target.get(ref.key) == data:
            self.found += 1
        else:
            return self._bad(old, ref, f"was imported to {ref.key} as other bytes")
        return replace(ref, sha256=hashlib.sha256(data).hexdigest())

    def _bad(self, old: ObjectRef, ref: ObjectRef, reason: str) -> ObjectRef:
        self._problems.append(Problem(old.key, reason))
        return ref


def _register(catalog: Catalog, fresh: Sequence[Registration]) -> tuple[int, list[str]]:
    """Register all, largest first, so that one that no record can hold fails before any other."""
    written, records = [], 0
    for batch in _batches(sorted(fresh, key=_bytes_of, reverse=True)):
        answers = catalog.register(batch)
        names = [answer.manifest.name for answer in answers if answer.written]
        written += names
        records += bool(names)
    return records, written


def _batches(fresh: Sequence[Registration]) -> list[list[Registration]]:
    batches: list[list[Registration]] = []
    room = 0
    for registration in fresh:
        room -= _bytes_of(registration)
        if room < 0 or not batches:
            batches.append([])
            room = RECORD_BYTES - _bytes_of(registration)
        batches[-1].append(registration)
    return batches


def _bytes_of(registration: Registration) -> int:
    return DATASET_BYTES + OBJECT_BYTES * len(registration.objects)


def _raise_missing(problems: Sequence[Problem], legacy: Legacy) -> None:
    keys = {ref.key for manifest in legacy.manifests for ref in manifest.objects}
    raise_problems(problems, f"of {counted(len(keys), 'object')}")
