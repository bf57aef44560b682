"""What is said of a search before it begins: plans, forecasts, extensions."""

from __future__ import annotations

from made_study import recipe
from pinned import as_json, check

from nas_attn.searching.prepare.extending import Extension, extension_lines
from nas_attn.searching.prepare.forecast import Forecast, forecast_lines
from nas_attn.searching.prepare.image_folder import Budget, FolderLook, budget_as_json, budget_lines
from nas_attn.searching.prepare.planning import Timetable, timetable_lines
from nas_attn.system.wrapping import Line

FORECASTS = (
    Forecast("s", 1200, True, 20, 0, 4, 0, 4, 2.5, 5400.0, 600.0, 3600.0, 0.021),
    Forecast("s", 1200, False, 4, 2, 4, 1, 5, 25.0, 400000.0, 600.0, 3600.0, 0.021, 10),
    Forecast("s", 12, False, 12, 0, 4, 0, 4, None, None, None, None, None),
)
TIMETABLES = (
    Timetable(900.0, 2, 2.5, 20, 12, 3, None, None),
    Timetable(900.0, 2, 2.5, 20, 20, 0, None, 10),
    Timetable(60.0, 2, 2.5, 20, 3, 0, 700.0, None),
    Timetable(900.0, 2, 2.5, 20, 12, 3, None, None, few=True, smallest_difference=0.021),
)
EXTENSION = Extension(
    "s", "small", (33, 1200), {"stage1": ("eca", "se(reduction=4)")}, {"stage2": ("simam",)}, 4, 1,
    7, ("uniform eca",), (20, 36),
)  # fmt: skip
LOOK = FolderLook(10, 12000, 3)
AWAY = "no connection"


def budgets() -> list[Budget]:
    made = recipe(training={"rungs": [10]}, target={"epochs": 10})
    weights = {"start": "pretrained", "weights": "default", "epochs": 5}
    sized = recipe(target=weights, data={"name": "folder:x", "size": 64})
    open_ = recipe(target={"epochs": "auto"}, training={})
    return [
        Budget(made, 900.0, 2, LOOK, 2.5, 4, 1900),
        Budget(sized, 9000.0, 2, FolderLook(3, 40, 0), 2.5, 0, 8, no_weights=AWAY),
        Budget(open_, 900.0, 4, LOOK, 12.0, 4, 1900, usual=20),
        Budget(made, 60.0, 2, LOOK, 2.5, 0, 1900, enough_s=800.0),
        Budget(made, 600.0, 2, LOOK, 2.5, 0, 1900, known=7),
    ]


def lines(several: list[Line]) -> str:
    return "\n".join(map(str, several))


def test_what_is_said_of_plans_is_as_it_was(renew: bool) -> None:
    texts = [lines(forecast_lines(forecast)) for forecast in FORECASTS]
    texts += [lines(timetable_lines(table)) for table in TIMETABLES]
    texts.append(lines(extension_lines(EXTENSION)))
    for budget in budgets():
        texts.append(lines(budget_lines(budget, "; --target changes it")))
        texts.append(as_json(budget_as_json(budget)))
    check("plans.txt", "\n\n".join(texts), renew=renew)
