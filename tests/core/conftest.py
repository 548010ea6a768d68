import os
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from pippin.core.database import _tables, server_url
from pippin.core.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # for core_records.py


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "home"))


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """A fresh store, on SQLite and, where PIPPIN_TEST_POSTGRES is the URL of a database to empty, on PostgreSQL."""
    if request.param == "sqlite":
        with Store(tmp_path / "store.db") as store:
            yield store
        return
    url = os.environ.get("PIPPIN_TEST_POSTGRES")
    if not url:
        pytest.skip("PIPPIN_TEST_POSTGRES is not set")
    engine = sa.create_engine(server_url(url))
    _tables.drop_all(engine)
    engine.dispose()
    with Store(url) as store:
        yield store
