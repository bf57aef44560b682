"""What a search in a short time could show, before there is a recipe."""

from __future__ import annotations

from nas_attn import tasks
from nas_attn.advice.facts import SearchPower
from nas_attn.analysis.plans import smallest_difference
from nas_attn.analysis.rounds import ROUNDS_PER_SEED
from nas_attn.searching.prepare.lengths import usual_length
from nas_attn.searching.prepare.timing import Speed, fitted, least_s

HALF_HOUR_S = 1800.0
# for training and validation, where nobody says how many there are
ASSUMED_IMAGES = 2000
# shares of them
TRAINED_SHARE = 0.8
VALIDATED_SHARE = 0.2
# seconds that measuring a candidate's latency takes
OF_A_CANDIDATE_S = 1.0
# more seeds for the networks that matter
CONFIRM_SEEDS = 2
# the task whose noise is known
KNOWN_NOISE = "classification"


def search_power(
    task: str, backbone: str, *, image_s: float, images: int | None, pretrained: bool
) -> SearchPower:
    """Of a search of half an hour on this machine's processor.

    Args:
        image_s: seconds of a training step for each image.
        images: for training and validation; None: a usual number is assumed.
        pretrained: whether the target starts from trained weights.
    """
    count = images or ASSUMED_IMAGES
    trained = TRAINED_SHARE * count
    epochs = usual_length(tasks.find(task, backbone), "folder:", trained, pretrained=pretrained)
    # scoring takes a third of a training step
    epoch_s = image_s * (trained + VALIDATED_SHARE * count / 3)
    speed = Speed(epoch_s, workers=1, session_s=OF_A_CANDIDATE_S)
    fit = fitted(HALF_HOUR_S, speed, epochs)
    runs = 1 + CONFIRM_SEEDS * (1 + ROUNDS_PER_SEED)
    shows = fit is not None and task == KNOWN_NOISE
    difference = smallest_difference(max(1, round(VALIDATED_SHARE * count)), runs)
    return SearchPower(
        seconds=HALF_HOUR_S,
        images=count,
        assumed=images is None,
        epochs=epochs,
        epoch_s=epoch_s,
        candidates=fit.trials if fit is not None else 0,
        smallest_gain=100 * difference if shows else None,
        enough_s=None if fit is not None else least_s(speed, epochs),
    )
