"""Where things lie below the store's root.

    _catalog/v1/FORMAT                          the anchor: catalog uuid, namespace, version
    _catalog/v1/log/<20-digit seq>.parquet      one atomic batch each, from 1 without gaps
    data/<dataset_id>/<txn uuid>/part-*.parquet immutable

Names of datasets never become keys: only ids, transaction uuids and numbers do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import uuid

CATALOG_PREFIX: Final = "_catalog/v1/"
FORMAT_KEY: Final = f"{CATALOG_PREFIX}FORMAT"
LOG_PREFIX: Final = f"{CATALOG_PREFIX}log/"
DATA_PREFIX: Final = "data/"
SEQ_DIGITS: Final = 20
_LOG_KEY = re.compile(rf"{re.escape(LOG_PREFIX)}([0-9]{{{SEQ_DIGITS}}})\.parquet")


def log_key(seq: int) -> str:
    """Return the key of record `seq`; 20 digits, so that keys sort as numbers do."""
    return f"{LOG_PREFIX}{seq:0{SEQ_DIGITS}d}.parquet"


def seq_of(key: str) -> int | None:
    """Return the number of the record that lies under `key`, None where none does."""
    match = _LOG_KEY.fullmatch(key)
    seq = int(match.group(1)) if match else 0
    return seq or None


def data_key(dataset_id: uuid.UUID, txn: uuid.UUID, part: int) -> str:
    """Return the key of one part; the transaction uuid makes it nobody else's."""
    return f"{DATA_PREFIX}{dataset_id}/{txn}/part-{part:05d}.parquet"
