"""What a search in a short time could show, before there is a recipe."""

from __future__ import annotations

from nas_attn.answer.advice.facts import SearchPower
from nas_attn.answer.plans import smallest_gain
from nas_attn.recipe import tasks
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.searching.prepare.lengths import longer_target, usual_found_s, usual_length
from nas_attn.searching.prepare.timing import (
    MOST_CANDIDATES,
    Speed,
    fitted,
    least_s,
    most_of_few,
)

HALF_HOUR_S = 1800.0
# for training and validation, where nobody says how many there are
ASSUMED_IMAGES = 2000
# shares of them
TRAINED_SHARE = 0.8
VALIDATED_SHARE = 0.2
# seconds that measuring a candidate's latency takes
OF_A_CANDIDATE_S = 1.0
# the task whose noise is known, and how long networks train for it
KNOWN_TASK = "classification"


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
    variant = tasks.find(task, backbone)
    epochs = usual_length(variant, "folder:", trained, pretrained=pretrained)
    # scoring takes a third of a training step
    epoch_s = image_s * (trained + VALIDATED_SHARE * count / 3)
    speed = Speed(epoch_s, workers=1, session_s=OF_A_CANDIDATE_S)
    validated = max(1, round(VALIDATED_SHARE * count))
    few = validated < FEW_VALIDATED
    # other trainers are told how long they train
    length_s = usual_found_s(speed, epochs) if variant.own_trainer else 0.0
    left_s = HALF_HOUR_S - length_s
    most = most_of_few(left_s, speed, epochs) if few else MOST_CANDIDATES
    fit = fitted(left_s, speed, epochs, most=most)
    gain = None
    longer = None
    if fit is not None and task == KNOWN_TASK:
        gain = 100 * smallest_gain(validated, fit.pairs, count if few else validated)
        longer = longer_target(
            speed, epochs, images=trained, seconds=HALF_HOUR_S, pretrained=pretrained
        )
    return SearchPower(
        seconds=HALF_HOUR_S,
        images=count,
        images_assumed=images is None,
        epochs=epochs,
        epoch_s=epoch_s,
        candidates=fit.trials if fit is not None else 0,
        smallest_gain=gain,
        enough_s=None if fit is not None else least_s(speed, epochs) + length_s,
        longer=longer,
    )
