"""Where things lie below the store's root.

    _catalog/v1/FORMAT                          the anchor: catalog uuid, namespace, version
    _catalog/v1/log/<20-digit seq>.parquet      one atomic batch each, from 1 without gaps
    _catalog/v1/ckpt/<20-digit seq>.parquet     all that is live at seq
    _catalog/v1/hint                            the newest checkpoint; advisory
    _catalog/v1/quarantine/…                    what repair took out, byte for byte
    data/<dataset_id>/<txn uuid>/part-*.parquet immutable

Names of datasets never become keys: only ids, transaction uuids and numbers do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import uuid

CATALOG_PREFIX: Final = "_catalog/v1/"
PROBE_PREFIX: Final = f"{CATALOG_PREFIX}probe/"  # what a killed probe of a store left
FORMAT_KEY: Final = f"{CATALOG_PREFIX}FORMAT"
LOG_PREFIX: Final = f"{CATALOG_PREFIX}log/"
CKPT_PREFIX: Final = f"{CATALOG_PREFIX}ckpt/"
HINT_KEY: Final = f"{CATALOG_PREFIX}hint"
GC_KEY: Final = f"{CATALOG_PREFIX}gc"  # advisory: by its time the store's clock is read
QUARANTINE_PREFIX: Final = f"{CATALOG_PREFIX}quarantine/"
DATA_PREFIX: Final = "data/"
SEQ_DIGITS: Final = 20
_NUMBER = re.compile(rf"([0-9]{{{SEQ_DIGITS}}})\.parquet")


def log_key(seq: int) -> str:
    """Return the key of record `seq`; 20 digits, so that keys sort as numbers do."""
    return f"{LOG_PREFIX}{seq:0{SEQ_DIGITS}d}.parquet"


def seq_of(key: str) -> int | None:
    """Return the number of the record that lies under `key`, None where none does."""
    return _number_of(LOG_PREFIX, key)


def ckpt_key(seq: int) -> str:
    """Return the key of the checkpoint at record `seq`."""
    return f"{CKPT_PREFIX}{seq:0{SEQ_DIGITS}d}.parquet"


def ckpt_seq_of(key: str) -> int | None:
    """Return the sequence of the checkpoint that lies under `key`, None where none does."""
    return _number_of(CKPT_PREFIX, key)


def data_key(dataset_id: uuid.UUID, txn: uuid.UUID, part: int) -> str:
    """Return the key of one part; the transaction uuid makes it nobody else's."""
    return f"{DATA_PREFIX}{dataset_id}/{txn}/part-{part:05d}.parquet"


def _number_of(prefix: str, key: str) -> int | None:
    match = _NUMBER.fullmatch(key, len(prefix)) if key.startswith(prefix) else None
    return (int(match.group(1)) or None) if match else None
