"""The corruption errors of the catalog, worded in one place."""

from __future__ import annotations

from typing import Final

from workbench.errors import Corruption

_HINT: Final = "`workbench catalog verify` lists all that is wrong; nothing was loaded from it"


def corrupt(key: str, reason: str, code: str = "record_corrupt") -> Corruption:
    """Return a Corruption that names the object and the reason.

    Args:
        key: The object's key.
        reason: What is wrong with it, as the end of a sentence.
        code: `format_corrupt`, `record_corrupt`, `record_missing`, `record_chain_broken`,
            `record_foreign`, `record_format_unsupported`, `record_rule_broken`,
            `object_missing`, `object_size_mismatch`, `object_hash_mismatch`,
            `object_unreadable`.
    """
    return Corruption(f"{key}: {reason}", code=code, hint=_HINT)
