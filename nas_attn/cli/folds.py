"""Which of the folds of a cross-validation train, validate and test: asked on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from nas_attn.cli.common import echo
from nas_attn.data.walking import divided_folds, folds_of, subfolders
from nas_attn.errors import DataError, did_you_mean, few, printable, shorten
from nas_attn.recipe.recipe import SplitsSection

# the answer if no fold is kept for the final test
NO_FOLD = "none"


def chosen_splits(
    data: str, validation: str | None, test: str | None, *, asking: bool
) -> SplitsSection | None:
    """Divides a folder of folds, as the options say, else as a person answers.

    Args:
        data: The data set, `folder:PATH` where folds are looked for.
        validation: The fold that validates; None: it was not given.
        test: The fold that tests; None: it was not given.
        asking: Whether a person at a terminal may be asked.

    Returns:
        The splits; None if the data have no folds.

    Raises:
        DataError: There is no such fold, or nobody can be asked.
    """
    source, _, place = data.partition(":")
    root = Path(place).expanduser()
    folds: tuple[str, ...] = ()
    if source == "folder" and root.is_dir():
        folds = folds_of(subfolders(root))
    for option, name in (("--validation-fold", validation), ("--test-fold", test)):
        if name is not None:
            _check_fold(data, folds, option, name)
    if not folds:
        return None
    if validation is not None:
        if validation == test or (len(folds) == 2 and test is not None):
            raise DataError(
                f"--validation-fold {validation} and --test-fold {test} leave no fold of"
                f" '{root}' apart to learn from: give two of at least three, or no --test-fold"
            )
        return divided_folds(folds, validation, test or "")
    if not asking:
        raise DataError(
            f"'{root}' has the folds {few(folds)}, and nobody said which validates and which"
            f" tests: give --validation-fold {folds[0]}, and --test-fold if you keep one"
            " for the final test"
        )
    return ask_folds(folds)


def _check_fold(data: str, folds: Sequence[str], option: str, name: str) -> None:
    if not folds:
        raise DataError(f"{option} {shorten(name)}: '{data}' has no folds (fold_0, fold_1, …)")
    if name not in folds:
        raise DataError(
            f"{option} {shorten(name)} is no fold of '{data}': {did_you_mean(name, folds)}"
        )


def ask_folds(folds: Sequence[str]) -> SplitsSection:
    """Asks which fold validates, and which tests, if that leaves one to learn from."""
    usual = divided_folds(folds)
    others = "the other trains"
    if len(folds) > 2:
        others = "one may be kept for the final test, the others train"
    echo(f"the folder has {len(folds)} folds: one validates, {others}")
    validation = _answer(folds, "Fold for validation", usual.validation[0])
    left = [name for name in folds if name != validation]
    if len(left) == 1:
        return divided_folds(folds, validation, "")
    test = _answer([*left, NO_FOLD], "Fold for the final test", left[-1])
    return divided_folds(folds, validation, "" if test == NO_FOLD else test)


def _answer(names: Sequence[str], question: str, usual: str) -> str:
    """The answer to a question, one of these names; asked again until it is."""
    while True:
        answer = str(typer.prompt(f"{question} ({', '.join(names)})", default=usual)).strip()
        if answer in names:
            return answer
        echo(f"there is no '{printable(shorten(answer))}': {did_you_mean(answer, names)}")
