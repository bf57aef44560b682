import dataclasses

import numpy as np

from nas_attn.analysis.fronts import ties
from nas_attn.model import Evidence, Run, fit
from nas_attn.model.latencies import suspicious
from nas_attn.records import Fingerprint, Latency, Session, SessionSample

MACHINE = Fingerprint("cpu", "test", ())


def sessions(ratios: dict[str, float], count: int = 8, spread: float = 0.01) -> list[Session]:
    rng = np.random.default_rng(0)
    return [
        Session(
            fingerprint=MACHINE,
            conditions={},
            started_at=float(number),
            duration_s=1.0,
            reference_ms=2.0,
            control_log_ratio=float(rng.normal(0, 0.002)),
            samples=tuple(
                SessionSample(key, float(np.log(ratio) + rng.normal(0, spread)), 2 * ratio, 0.0, 2 * ratio, 100)
                for key, ratio in ratios.items()
            ),
        )
        for number in range(count)
    ]


def model(means: dict[str, float], spread: float = 0.003) -> Evidence:
    rng = np.random.default_rng(1)
    runs = [Run(k, seed, 0, m + float(rng.normal(0, spread))) for k, m in means.items() for seed in range(5)]
    found = fit(runs, {k: "none" if k == "none" else f"stage1=se stage2={k}" for k in means}, metric="accuracy")
    assert found is not None
    return found


def values(accuracy: dict[str, float]) -> dict[str, list[float | None]]:
    return {key: [value, None] for key, value in accuracy.items()}


def test_equals_are_tied_and_clear_differences_in_either_objective_are_not() -> None:
    accuracy = {"a": 0.70, "b": 0.70, "fast": 0.70, "good": 0.75, "none": 0.60}
    measured = sessions({"a": 1.20, "b": 1.20, "fast": 1.05, "good": 1.20})
    found = ties(["accuracy", "latency"], values(accuracy), {"accuracy": model(accuracy)}, measured, "none")
    assert found == {"a": ("b",), "b": ("a",), "fast": (), "good": (), "none": ()}


def test_the_bare_backbone_is_told_apart_by_its_ratio_of_one() -> None:
    accuracy = {"slow": 0.70, "same": 0.70, "none": 0.70}
    measured = sessions({"slow": 1.2, "same": 1.0})
    found = ties(["accuracy", "latency"], values(accuracy), {"accuracy": model(accuracy)}, measured, "none")
    assert found["none"] == ("same",)


def test_a_predicted_latency_tells_nothing_apart_and_a_counted_cost_always_does() -> None:
    accuracy = {"measured": 0.70, "predicted": 0.70}
    models = {"accuracy": model(accuracy)}
    measured = sessions({"measured": 1.5})
    assert ties(["accuracy", "latency"], values(accuracy), models, measured, None)["predicted"]
    counted = {"measured": [0.70, 1000.0], "predicted": [0.70, 1001.0]}
    assert not ties(["accuracy", "params"], counted, models, [], None)["predicted"]


def test_a_session_that_does_not_count_tells_nothing_apart() -> None:
    """Its own control was off, and the candidate has no other: on a noisy machine that ended every worker."""
    accuracy = {"measured": 0.70, "disturbed": 0.70, "none": 0.70}
    (off,) = sessions({"disturbed": 1.5}, count=1)
    all_of_them = [*sessions({"measured": 1.5}), dataclasses.replace(off, control_log_ratio=0.2)]
    models = {"accuracy": model(accuracy)}
    found = ties(["accuracy", "latency"], values(accuracy), models, all_of_them, "none")
    assert found == {"measured": ("disturbed",), "disturbed": ("measured", "none"), "none": ("disturbed",)}


def test_a_latency_far_from_what_the_others_say_is_suspicious() -> None:
    rng = np.random.default_rng(2)
    costs = {"none": 0.0, "se(reduction=4)": 0.1, "simam": 0.05}
    texts, latencies = {}, {}
    for number, (one, first) in enumerate(costs.items()):
        for two, second in costs.items():
            for three, third in costs.items():
                key = f"{number}{two}{three}"
                parts = [f"stage{i}={c}" for i, c in enumerate((one, two, three), 1) if c != "none"]
                texts[key] = " ".join(parts) or "none"
                ratio = 1 + first + second + third + float(rng.normal(0, 0.005))
                latencies[key] = Latency(ratio, ratio * 0.99, ratio * 1.01, 2.0, 6)
    assert suspicious(latencies, texts) == []
    wrong = next(key for key, text in texts.items() if text.count("se(") == 2)
    off = latencies[wrong].ratio * 1.5
    latencies[wrong] = Latency(off, off * 0.99, off * 1.01, 2.0, 2)
    assert suspicious(latencies, texts) == [wrong]
    few = dict(list(latencies.items())[:5])
    assert suspicious(few, texts) == []
