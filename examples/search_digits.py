"""A search by Python: four small networks, trained for an epoch each."""

import nas_attn as na

TINY = {
    "data.options": {"train": 256, "validation": 128, "test": 64},
    "training.backbone_epochs": 1,
    "training.rungs": [1],
    "latency.session_seconds": 0.5,
    "search.confirm_seeds": 0,
}


def main() -> None:
    study = na.search("digits", name="few-digits", trials=4, overrides=TINY)
    for candidate in study.front():
        print(candidate.label, candidate.placement)
    print("within 1.2 times the latency:", study.best(max_latency_ratio=1.2).placement)
    print("report:", study.report("few-digits.html"))


if __name__ == "__main__":
    main()
