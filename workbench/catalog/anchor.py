"""The FORMAT object: which catalog this is, and how to read it.

One line of JSON text, keys in this order:

    {"format": "hotspot-workbench-catalog", "format_version": 1, "catalog_uuid": "…",
     "id_namespace": "…", "sha256": "…"}

The hash is the seal (`seal`), checked before the text is parsed. Every later version keeps the
seal and the first two keys, so an older reader can name the version that it does not know.
Record 1 carries SHA-256 of this object's bytes: the chain hangs on it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Final

from workbench.catalog.faults import corrupt
from workbench.catalog.layout import FORMAT_KEY
from workbench.catalog.seal import BLANK, Seal, SealError
from workbench.errors import InvalidInput
from workbench.model.manifest import ID_NAMESPACE

FORMAT_NAME: Final = "hotspot-workbench-catalog"
FORMAT_VERSION: Final = 1
FORMAT_BYTES_MAX: Final = 64 * 1024
FORMAT_SEAL: Final = Seal(b'"sha256": "')


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a FORMAT object says: the catalog's uuid, and SHA-256 of the object's bytes."""

    catalog_uuid: uuid.UUID
    sha256: str


def encode_anchor(
    catalog_uuid: uuid.UUID,
    *,
    version: int = FORMAT_VERSION,
    namespace: uuid.UUID = ID_NAMESPACE,
) -> bytes:
    """Return the bytes of a FORMAT object."""
    fields = {
        "format": FORMAT_NAME,
        "format_version": version,
        "catalog_uuid": str(catalog_uuid),
        "id_namespace": str(namespace),
        "sha256": BLANK.decode(),
    }
    return FORMAT_SEAL.stamp(json.dumps(fields).encode() + b"\n")


def decode_anchor(data: bytes) -> Anchor:
    """Return what a FORMAT object says.

    Raises:
        Corruption: `format_corrupt`.
        InvalidInput: `catalog_format_unsupported`, which names both versions, or
            `catalog_namespace_unsupported`.
    """
    if len(data) > FORMAT_BYTES_MAX:
        raise corrupt(FORMAT_KEY, f"has {len(data)} bytes", "format_corrupt")
    try:
        FORMAT_SEAL.check(data)
        fields = json.loads(data)
        name, version = fields["format"], fields["format_version"]
    except (SealError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise corrupt(FORMAT_KEY, _reason(error), "format_corrupt") from error
    if name != FORMAT_NAME or version != FORMAT_VERSION:
        raise InvalidInput(
            f"the catalog is written in format {name!r} version {version!r}, "
            f"this workbench reads {FORMAT_NAME!r} version {FORMAT_VERSION}",
            code="catalog_format_unsupported",
            hint="use a workbench that knows this version",
        )
    try:
        catalog_uuid, namespace = (uuid.UUID(fields[k]) for k in ("catalog_uuid", "id_namespace"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise corrupt(FORMAT_KEY, _reason(error), "format_corrupt") from error
    if namespace != ID_NAMESPACE:
        raise InvalidInput(
            f"the catalog makes ids in namespace {namespace}, this workbench in {ID_NAMESPACE}",
            code="catalog_namespace_unsupported",
            hint="it was made by another program; register the datasets in a new catalog",
        )
    return Anchor(catalog_uuid, hashlib.sha256(data).hexdigest())


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SealError) else f"cannot be read ({error!r})"
