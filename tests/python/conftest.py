"""Tests write to a ledger of their own, never to the user's."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_ledger(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VORTEX_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))
        yield
