"""Creates and opens studies: our tables and Optuna's in one database, artifacts in a folder
beside.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from nas_attn._version import __version__
from nas_attn.errors import StorageError, StudyError, shorten
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import BACKBONE_SOURCES
from nas_attn.storage.artifacts import ArtifactStore, FolderArtifacts
from nas_attn.storage.bucket import SCHEME, BucketArtifacts
from nas_attn.storage.database import Database, check_same_recipe
from nas_attn.storage.store import StudyStore
from nas_attn.storage.urls import shown_url
from nas_attn.system.paths import DEFAULT_URL, user_path

if TYPE_CHECKING:
    from nas_attn.storage.trial_book import TrialBook


@dataclass(frozen=True)
class OpenStudy:
    """A study with all that belongs to it."""

    url: str
    database: Database
    store: StudyStore
    recipe: Recipe
    # of its artifacts; if these are in a bucket, of this machine's logs and an evaluator's files
    folder: Path

    @cached_property
    def book(self) -> TrialBook:
        """Its trials; StorageError if the database has lost them."""
        from nas_attn.storage.trial_book import TrialBook, trials_deleted

        fresh = not self.store.candidates()
        try:
            # if its creation was cut off half way, it is made
            book = TrialBook(
                self.database, self.store.name, made_for=self.recipe if fresh else None
            )
        except KeyError:
            raise trials_deleted(self.store.name, self.database) from None
        if not book.is_for(self.recipe):
            # the study's own was deleted, and another one made
            raise _not_ours(self.database, self.store.name)
        return book

    @cached_property
    def artifacts(self) -> ArtifactStore:
        place = self.store.settings.artifacts
        if place.startswith(SCHEME):
            return BucketArtifacts(place)
        return FolderArtifacts(self.folder)

    @property
    def local_artifacts(self) -> Path | None:
        """The folder of its artifacts as a person types it; None if they are in a bucket."""
        if self.store.settings.artifacts.startswith(SCHEME):
            return None
        here = Path.cwd()
        if self.folder.is_relative_to(here):
            return self.folder.relative_to(here)
        return self.folder

    @property
    def trials(self) -> int:
        return self.store.settings.trials

    def make_folder(self) -> Path:
        """Creates the folder for workers. An absolute one of a database file must exist: a received
        file shall create no folders here.
        """
        received = (
            self.database.path is not None and Path(self.store.settings.artifacts).is_absolute()
        )
        _ready(self.folder, make=not received)
        return self.folder


def create_study(
    recipe: Recipe,
    url: str = DEFAULT_URL,
    *,
    artifacts: Path | str | None = None,
    resplit: bool = False,
    source: str | None = None,
) -> OpenStudy:
    """Creates a study, or opens the one with the same name and recipe.

    Args:
        recipe: what is searched.
        url: of the database.
        artifacts: a folder or `s3://BUCKET/PREFIX`; None: beside the SQLite file, else
            `nas_attn.artifacts`.
        resplit: what `data.resplit = "auto"` stands for in a new one.
        source: the study from which a new one takes over; None: it begins empty.

    Raises:
        StudyError: the name is taken by another recipe; the URL or the folder is unusable.
        StorageError: the database cannot be opened.
    """
    from nas_attn.storage.trial_book import TrialBook

    database = Database(url)
    place = _place(database, artifacts)
    with database.creating():
        text = _checked(recipe, database, place)
        if text is None:
            text = recipe.with_resplit(resplit).to_json()
            _ready(artifacts_folder(database, place))
        store = database.create_study(
            recipe.name,
            recipe=text,
            versions=versions(recipe),
            trials=recipe.search.trials,
            artifacts=place,
            taking_over=source,
        )
        TrialBook(database, recipe.name, made_for=recipe).close()
    return _opened(url, database, store)


def check_place(recipe: Recipe, url: str, *, artifacts: Path | str | None = None) -> None:
    """Raises StudyError as `create_study` does for a name or a place; makes and upgrades
    nothing.
    """
    with Database(url, prepared=False) as database:
        _checked(recipe, database, _place(database, artifacts))


def _checked(recipe: Recipe, database: Database, place: str) -> str | None:
    """The stored recipe of the study of this name, if it is the same but for the order of its keys
    and what the study found; None: there is no study. Raises StudyError: the name is taken, or the
    folder or the bucket of its artifacts cannot be used.
    """
    there = database.look(recipe.name)
    if there is not None:
        stored, _ = there
        kept = frozen_recipe(stored, where=f"study '{recipe.name}' in '{database}'")
        if not recipe.is_that_of(kept):
            check_same_recipe(recipe.name, stored, recipe.with_autos_of(kept).to_json())
        return stored
    if database.has_trials(recipe.name):
        raise _not_ours(database, recipe.name)
    if place.startswith(SCHEME):
        BucketArtifacts(place).check()
    folder = artifacts_folder(database, place)
    if not _is_writable(next(one for one in (folder, *folder.parents) if one.exists())):
        raise _unusable(folder)
    return None


@dataclass(frozen=True, slots=True)
class BegunStudy:
    """A study in a database, before it is opened."""

    recipe: Recipe
    candidates: int
    """That it has begun."""


def begun_study(name: str, url: str) -> BegunStudy | None:
    """The study of this name; None: there is none. Makes and upgrades nothing. Raises StudyError: a
    bad URL. Raises StorageError: the database or the recipe cannot be read.
    """
    with Database(url, prepared=False) as database:
        there = database.look(name)
    if there is None:
        return None
    recipe, candidates = there
    return BegunStudy(frozen_recipe(recipe, where=f"study '{name}' in '{database}'"), candidates)


def _not_ours(database: Database, name: str) -> StudyError:
    return StudyError(
        f"'{database}' has an Optuna study '{name}' that no search of nas_attn has made:"
        " give the search another name (--name), or another storage (--storage)"
    )


def renewed(opened: OpenStudy) -> OpenStudy:
    """The study with its present recipe, which changes once: when it finds how long its target
    trains.
    """
    if opened.store.is_current:
        return opened
    return open_study(opened.store.name, opened.url)


def open_study(name: str, url: str = DEFAULT_URL) -> OpenStudy:
    """A study by its name; StudyError if there is none, StorageError if the database cannot be
    opened.
    """
    database = Database(url, must_exist=True)
    store = database.study(name)
    opened = _opened(url, database, store)
    if not database.has_trials(name):
        # raises what is wrong with them; loads Optuna only in this case
        assert opened.book is not None
    return opened


def only_study(storage: str) -> str:
    """The name of a database's only study; StudyError if it holds none, or several."""
    names = [study.name for study in Database(storage, must_exist=True).stores()]
    if not names:
        raise StudyError(f"'{shown_url(storage)}' holds no study: start one with `nas-attn search`")
    if len(names) > 1:
        raise StudyError(
            f"'{shown_url(storage)}' holds the studies {', '.join(names)}: name one of them"
        )
    return names[0]


def versions(recipe: Recipe | None = None) -> Mapping[str, str]:
    """Versions of the packages that a study's results depend on, its backbone's included."""
    names = ["torch", "torchvision", "optuna", "numpy"]
    own = recipe and BACKBONE_SOURCES.get(recipe.backbone.name.partition(":")[0])
    if own:
        names.append(own.package)
    version_by_name = {"nas_attn": __version__, "python": platform.python_version()}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            # whatever builds the network says that it is missing
            version_by_name[name] = metadata.version(name)
    return version_by_name


def _opened(url: str, database: Database, store: StudyStore) -> OpenStudy:
    folder = artifacts_folder(database, store.settings.artifacts)
    recipe = frozen_recipe(store.recipe, where=f"study '{store.name}' in '{database}'")
    return OpenStudy(url, database, store, recipe, folder)


def artifacts_folder(database: Database, place: str) -> Path:
    """The folder on this machine that belongs to studies whose artifacts lie there; StorageError if
    nas_attn never writes such a place.
    """
    base = database.path.parent if database.path else Path.cwd()
    if place.startswith(SCHEME):
        return base / _default_folder(database)
    parts = Path(place).parts
    if "\0" in place or (not Path(place).is_absolute() and (len(parts) > 1 or ".." in parts)):
        raise StorageError(
            f"'{database}' names a wrong artifacts folder, '{shorten(place)}': restore it from a"
            " backup"
        )
    # an absolute place stays as it is
    return base / place


def _ready(folder: Path, *, make: bool = True) -> None:
    """Raises StudyError if files cannot be written to the folder; `make`: makes it if needed."""
    if make:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    if not _is_writable(folder):
        raise _unusable(folder)


def _is_writable(folder: Path) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _unusable(folder: Path) -> StudyError:
    return StudyError(
        f"the artifacts folder '{shorten(str(folder))}' does not exist or cannot be written:"
        " create it"
    )


def _default_folder(database: Database) -> str:
    if database.path is not None:
        return f"{database.path.stem}.artifacts"
    return "nas_attn.artifacts"


def _place(database: Database, chosen: Path | str | None) -> str:
    """The place of artifacts; relative to the database's folder if possible, so that both can move
    together.
    """
    if isinstance(chosen, str) and chosen.startswith(SCHEME):
        return chosen
    if chosen is not None:
        return str(user_path(chosen, what="artifacts", error=StudyError).resolve())
    folder = _default_folder(database)
    if database.path is not None:
        return folder
    return str(Path(folder).resolve())
