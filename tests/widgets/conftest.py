"""Stages whose patches end with their test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def make_stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    def make(*arguments: Any, **named: Any) -> Stage:
        return Stage(*arguments, patch=monkeypatch.setattr, **named)

    return make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()
