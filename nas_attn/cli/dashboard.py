"""`nas-attn dashboard`."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, Storage, StudyName, study_named
from nas_attn.errors import OperationError, StudyError


def dashboard(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Refreshes notes and plots, then serves optuna-dashboard until interrupted."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise StudyError("optuna-dashboard is not installed: pip install 'nas-attn[dashboard]'")
    from nas_attn.storage import optuna_engine_arguments
    from nas_attn.study.publishing import Publisher

    opened = study_named(study, storage)
    Publisher(opened).changed()
    number = opened.optuna_study._study_id
    address, _ = optuna_engine_arguments(storage)
    folder = opened.folder
    opened.database.close()
    try:
        _serve(address, folder, host, port, f"http://{host}:{port}/dashboard/studies/{number}  (Ctrl-C ends it)")
    except OSError as error:
        raise OperationError(
            f"--host {host} --port {port} cannot be listened on ({error}): give another --port"
        ) from None


def _serve(storage: str, artifacts: Path, host: str, port: int, ready: str) -> None:
    """Answers browsers until Ctrl-C, each in a thread of its own: they keep connections open."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(WSGIRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Not a line for each of the requests that an open page goes on making."""

    app = wsgi(storage, artifact_store=FileSystemArtifactStore(str(artifacts)))
    with (
        make_server(host, port, app, server_class=Server, handler_class=Handler) as server,
        suppress(KeyboardInterrupt),
    ):
        typer.echo(ready)
        server.serve_forever()
