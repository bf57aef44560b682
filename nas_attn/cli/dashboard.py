"""`nas-attn dashboard`."""

from __future__ import annotations

import importlib.util
import sys
from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, Storage, StudyName, study_named
from nas_attn.errors import StudyError


def dashboard(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Refreshes notes and plots, then serves optuna-dashboard until interrupted."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise StudyError("optuna-dashboard is not installed: pip install 'nas-attn[dashboard]'")
    import os

    from nas_attn.storage import optuna_engine_arguments
    from nas_attn.study.publishing import Publisher

    opened = study_named(study, storage)
    Publisher(opened).changed()
    number = opened.optuna_study._study_id
    typer.echo(f"http://{host}:{port}/dashboard/studies/{number}  (Ctrl-C ends it)")
    address, _ = optuna_engine_arguments(storage)
    command = [sys.executable, "-m", "optuna_dashboard._cli", address, "--host", host, "--port", str(port)]
    command += ["--artifact-dir", str(opened.folder)]
    opened.database.close()
    os.execv(sys.executable, command)
