from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nas_attn.errors import StorageError
from nas_attn.storage.database import Database

RUNNER = Path(__file__).resolve().parents[2] / "runners" / "postgres" / "run.py"


@pytest.mark.slow
def test_workers_share_a_study_through_a_server_of_its_own(
    tiny: Path, private_server: ModuleType, open_folder: Path
) -> None:
    data = open_folder / "runner"
    command = [
        sys.executable,
        str(RUNNER),
        "--data",
        str(data),
        str(tiny),
        "--workers",
        "2",
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, cwd=tiny.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "worker 1: done (complete)" in done.stderr
    assert "worker 2: done (complete)" in done.stderr
    assert "Study tiny: the front" in done.stdout
    assert (data / "password").read_text().strip() not in done.stdout + done.stderr
    assert not (data / "data" / "postmaster.pid").exists()
    assert not list(tiny.parent.glob("*.db"))
    with private_server.PrivateServer(data) as server, Database(server.url()) as database:
        rows = database.study("tiny").candidates()
    assert [(row.trial, row.state) for row in rows] == [(0, "scored"), (1, "scored")]


def test_a_server_starts_again_with_its_data_and_is_joined_while_it_runs(
    private_server: ModuleType, open_folder: Path
) -> None:
    folder = open_folder / "again"
    with private_server.PrivateServer(folder, settings={"fsync": "off"}) as server:
        with Database(server.url()) as database:
            database.create_study("a", recipe="{}", versions={})
        with private_server.PrivateServer(folder) as second:
            assert second.url() == server.url()
        with Database(server.url()) as database:
            assert [study.name for study in database.studies()] == ["a"]
        wrong = server.url().replace((folder / "password").read_text().strip(), "guess")
        with pytest.raises(StorageError, match="password authentication failed"):
            Database(wrong)
    with private_server.PrivateServer(folder) as server, Database(server.url()) as database:
        assert [study.name for study in database.studies()] == ["a"]


def test_a_port_in_use_is_one_sentence(private_server: ModuleType, open_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = private_server.PrivateServer(open_folder / "port", port=other.getsockname()[1])
        with pytest.raises(private_server.ServerError, match=r"could not create any TCP/IP"):
            server.start()


def test_a_folder_that_cannot_be_used_is_one_sentence(
    private_server: ModuleType, open_folder: Path
) -> None:
    (open_folder / "full" / "data").mkdir(parents=True)
    (open_folder / "full" / "data" / "other").write_text("")
    with pytest.raises(private_server.ServerError, match="cannot create"):
        private_server.PrivateServer(open_folder / "full").start()
