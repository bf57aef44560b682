"""Runs a study against a PostgreSQL server of its own, as several machines would share it.

    python runners/postgres/run.py digits --workers 2
    # other machines may join in
    python runners/postgres/run.py digits --workers 2 --host 0.0.0.0 --port 5433

Starts the server (data in --data, kept), then `nas-attn search` with what else is on the command
line. The same command again goes on with the study.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from private_server import PrivateServer, ServerError

SEARCH = (sys.executable, "-m", "nas_attn.cli.main", "search")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the search; 1 where the server does not start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path("nas_attn_postgres"), help="folder of the server's data"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: other machines, too"
    )
    parser.add_argument("--port", type=int, help="port to listen on; default: a free one")
    options, rest = parser.parse_known_args(arguments)
    try:
        with PrivateServer(options.data, host=options.host, port=options.port) as server:
            return _search(server, rest)
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _search(server: PrivateServer, rest: Sequence[str]) -> int:
    if server.host == "127.0.0.1":
        print(
            f"PostgreSQL listens on 127.0.0.1:{server.port}; its password is in"
            f" {server.folder / 'password'}"
        )
    else:
        url = server.url(host=socket.gethostname())
        print(f"other machines join in by: nas-attn worker STUDY --storage '{url}'")
    sys.stdout.flush()
    search = subprocess.Popen(
        [*SEARCH, *rest], env={**os.environ, "NAS_ATTN_STORAGE": server.url()}
    )
    # Ctrl-C reaches the search by itself; the server must outlive its workers' last words.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: search.terminate())
    return search.wait()


if __name__ == "__main__":
    raise SystemExit(main())
