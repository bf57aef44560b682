"""Creates and opens studies: our tables and Optuna's in one database, artifacts in a folder beside."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from nas_attn._version import __version__
from nas_attn.errors import StorageError, StudyError
from nas_attn.recipe import Recipe, lower_is_better
from nas_attn.storage import Database, StudyStore, optuna_engine_arguments

DEFAULT_URL = "sqlite:///nas_attn.db"
ARTIFACTS = "artifacts"
"""Attribute of a study that names its folder of artifacts."""
TRIALS = "trials"
"""Attribute of a study that holds its number of trials, where it was raised after creation."""


@dataclass(frozen=True)
class OpenStudy:
    """A study with all that belongs to it."""

    url: str
    database: Database
    store: StudyStore
    optuna_study: optuna.Study
    recipe: Recipe
    folder: Path
    """Where its artifacts lie."""

    @property
    def artifacts(self) -> FileSystemArtifactStore:
        """Its checkpoints and weights."""
        return FileSystemArtifactStore(self.folder)

    @property
    def trials(self) -> int:
        """How many candidates it is to evaluate in all."""
        return int(self.store.get(TRIALS) or self.recipe.search.trials)


def create_study(recipe: Recipe, url: str = DEFAULT_URL, *, artifacts: Path | None = None) -> OpenStudy:
    """A new study, or the one there is with the same name and recipe.

    Args:
        artifacts: folder of checkpoints and weights; None: beside the SQLite file, else `nas_attn.artifacts` here.

    Raises:
        StudyError: the name is taken by a study with another recipe; the URL or the folder is unusable.
        StorageError: the database cannot be opened.
    """
    database = Database(url)
    if recipe.name not in [study.name for study in database.studies()]:
        _make_folder(_folder(database, _artifacts_attribute(database, artifacts)))  # an unusable one is not recorded
    with database.creating():
        store = database.create_study(recipe.name, recipe=recipe.to_json(), versions=versions())
        if store.get(ARTIFACTS) is None:
            store.put(ARTIFACTS, _artifacts_attribute(database, artifacts))
        study = _optuna_part(recipe, database)
    return _opened(url, database, store, study)


def open_study(name: str, url: str = DEFAULT_URL) -> OpenStudy:
    """A study by its name.

    Raises:
        StudyError: there is none; names the nearest.
        StorageError: the database cannot be opened, or is from a newer version.
    """
    database = Database(url, must_exist=True)
    store = database.study(name)
    try:
        study = optuna.load_study(study_name=name, storage=_optuna_storage(database))
    except KeyError:
        if store.candidates():
            raise StorageError(
                f"study '{name}' in '{database}' has lost its Optuna part: restore the database from a backup"
            ) from None
        with database.creating():  # its creation was cut off half way
            study = _optuna_part(Recipe.model_validate_json(store.recipe), database)
    return _opened(url, database, store, study)


def versions() -> Mapping[str, str]:
    """Versions of what a study's results depend on."""
    names = ("torch", "torchvision", "optuna", "numpy", "scikit-learn")
    return {"nas_attn": __version__, "python": platform.python_version(), **{n: metadata.version(n) for n in names}}


def artifacts_folder(database: Database, part: StudyStore, study: StudyStore | None) -> Path:
    """Where the artifacts of a study's part lie: where the study's do as the part is made, else the usual place.

    Raises:
        StudyError: it cannot be written.
    """
    known = part.get(ARTIFACTS)
    if known is None:
        known = (study and study.get(ARTIFACTS)) or _artifacts_attribute(database, None)
        part.put(ARTIFACTS, known)
    folder = _folder(database, known)
    _make_folder(folder)
    return folder


def _opened(url: str, database: Database, store: StudyStore, study: optuna.Study) -> OpenStudy:
    folder = _folder(database, store.get(ARTIFACTS) or ".")
    _make_folder(folder)
    return OpenStudy(url, database, store, study, Recipe.model_validate_json(store.recipe), folder)


def _folder(database: Database, attribute: str) -> Path:
    base = database.path.parent if database.path else Path.cwd()
    return base / attribute  # an absolute attribute stays as it is


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise StudyError(f"the artifacts folder '{folder}' cannot be written: give another one with --artifacts")


def _optuna_part(recipe: Recipe, database: Database) -> optuna.Study:
    study = optuna.create_study(
        study_name=recipe.name,
        storage=_optuna_storage(database),
        directions=["minimize" if lower_is_better(o) else "maximize" for o in recipe.objectives],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(recipe.objectives))
    return study


def _artifacts_attribute(database: Database, chosen: Path | None) -> str:
    """Relative to the database's folder where it may be, so that both can move together."""
    if chosen is not None:
        return str(chosen.expanduser().resolve())
    if database.path is not None:
        return f"{database.path.stem}.artifacts"
    return str(Path("nas_attn.artifacts").resolve())


def _optuna_storage(database: Database) -> RDBStorage:
    address, arguments = optuna_engine_arguments(database.url)
    try:
        return RDBStorage(address, engine_kwargs=arguments)
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StorageError(f"Optuna {optuna.__version__} cannot use the database '{database}': {error}") from None
    except SQLAlchemyError as error:
        raise StorageError(f"the database '{database}' cannot be opened: {error}") from None
