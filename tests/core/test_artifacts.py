import os
import time
from pathlib import Path

import pytest

from pippin.core.artifacts import Artifacts
from pippin.core.errors import InputError, StoreError


@pytest.fixture
def artifacts(tmp_path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_it_is_complete(artifacts):
    with artifacts.writing("k") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
        assert artifacts.find("k") is None
    found = artifacts.find("k")
    assert found is not None
    assert (found / "sub" / "file").read_text() == "x"
    assert names(artifacts.root / ".tmp") == []
    assert artifacts.size() == (1, 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_writer_leaves_nothing(artifacts, error):
    with pytest.raises(error), artifacts.writing("k") as folder:
        (folder / "file").touch()
        raise error
    assert artifacts.find("k") is None
    assert names(artifacts.root / ".tmp") == []


def test_the_first_writer_stays(artifacts):
    with artifacts.writing("k") as slow:
        (slow / "slow").touch()
        with artifacts.writing("k") as quick:
            (quick / "quick").touch()
    assert names(artifacts.find("k")) == ["quick"]
    assert names(artifacts.root / ".tmp") == []


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "é", "x" * 300])
def test_a_key_is_no_path(artifacts, key):
    with pytest.raises(InputError, match="not a key of an artifact"):
        artifacts.find(key)
    with pytest.raises(InputError), artifacts.writing(key):
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"), Artifacts(tmp_path / "file").writing("k"):
        pass


def test_links_into_nowhere_are_kept_as_they_are(artifacts):
    with artifacts.writing("k") as folder:
        (folder / "link").symlink_to("nowhere")
    assert names(artifacts.find("k")) == ["link"]


def test_cleaning_takes_the_dead_and_the_old_and_no_others(artifacts):
    for key in ("old", "new"):
        with artifacts.writing(key) as folder:
            (folder / "file").touch()
    past = time.time() - 1000
    os.utime(artifacts.root / "old", (past, past))
    (artifacts.root / ".tmp" / "dead.0123").mkdir()
    with artifacts.writing("living"):
        assert artifacts.clean() == (1, 0)
        assert artifacts.clean(older_than=500) == (0, 1)
    assert artifacts.find("old") is None
    assert artifacts.find("new") is not None
    assert artifacts.find("living") is not None
    assert names(artifacts.root / ".tmp") == []
