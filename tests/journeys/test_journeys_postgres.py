"""A study in PostgreSQL: several workers, one of them joining by hand, stopped and killed and taken up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from answers import DIGITS, finished, kept_files, settings
from shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def database(shell: Shell, private_server, open_folder) -> Iterator[str]:
    """The URL of an empty database, exported as docs/running.md says."""
    with private_server.PrivateServer(open_folder / "journey", settings={"fsync": "off"}) as server:
        shell.variables["NAS_ATTN_STORAGE"] = server.url()
        yield server.url()


def test_workers_on_a_server_stopped_killed_and_joined_by_hand(shell: Shell, database: str) -> None:
    tiny = settings(DIGITS, training__rungs="[1,3]")
    search = shell.begins(f"search digits --workers 2 --threads 1 --trials 12 --artifacts kept {tiny}")
    stopped = search.until(r"trial 2 \(").ctrl_c().ends(130)
    assert stopped.err.count("done (stopped)") == 2
    password = database.split(":")[2].split("@")[0]
    assert password not in stopped.out + stopped.err
    assert "nas-attn resume digits" in stopped.err

    killed = shell.begins("resume digits --workers 2 --threads 1").until(r"trial \d+")
    killed.kill()  # its workers notice that their parent is gone, and stop in order

    joined = shell.begins("worker digits --threads 1")
    shell.types("resume digits --workers 1 --threads 1")
    assert "done (complete)" in joined.ends().out
    answer = finished(shell, "digits", trials=12)
    kept_files(shell, answer, "kept")
    assert not list(shell.folder.glob("*.db*"))
    assert "digits" in shell.types("status").out
    assert password not in shell.types("status digits").out
    shell.types("report digits -o page.html")
    shell.types("export digits --placement none")
    assert shell.files() == {"kept", "digits.html", "page.html", "digits.pt", "digits.pt.json", "digits.pt.md"}
    assert "pg_dump" in shell.types("backup copy.db", status=2).error
