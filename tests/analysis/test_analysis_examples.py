import numpy as np

from nas_attn.analysis.per_image import SHOWN, examples
from nas_attn.records import Score


def run(right: list[int], count: int = 20) -> Score:
    bits = np.isin(np.arange(count), right)
    return Score(0, 1, 3, {}, correct=np.packbits(bits).tobytes(), examples=count)


def test_images_on_which_two_networks_differ_are_counted_and_the_clearest_come_first() -> None:
    bare = [run([0, 1, 2]), run([0, 1, 2, 9])]
    best = [run([0, 9, 10, 11]), run([0, 10, 11])]
    found = examples(bare, best)
    assert found is not None
    assert (found.better, found.worse, found.runs) == (2, 2, (2, 2)), "image 9 is right as often with both"
    assert [(one.image, one.bare, one.best) for one in found.gained] == [(10, 0.0, 1.0), (11, 0.0, 1.0)]
    assert [one.image for one in found.lost] == [1, 2]


def test_few_are_shown_and_none_without_results_per_image() -> None:
    found = examples([run([])], [run(list(range(12)))])
    assert found is not None
    assert (found.better, len(found.gained), found.lost) == (12, SHOWN, ())
    assert examples([], [run([1])]) is None
    assert examples([Score(0, 1, 3, {})], [run([1])]) is None
    assert examples([run([1])], [run([1], count=30)]) is None, "of other images"
