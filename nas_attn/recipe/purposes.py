"""How runs are trained and what they are made for: the words that a study keeps with each run and
each score.
"""

# A training protocol, the recipe's `[training]`; and the purpose of the search's own runs
SEARCH = "search"
# The training protocol of the target; a study may keep others
TARGET_PROTOCOL = "target"
CONFIRM = "confirm"
ROUND = "round"
VALIDATE = "validate"
RETRAIN = "retrain"
# Purpose of the runs that train backbones; their key where it is the study's own
BACKBONE = "backbone"
# Purpose of the bare backbone's trainings that show how long it needs
LENGTH = "length"
PURPOSES = frozenset({SEARCH, CONFIRM, ROUND, VALIDATE, RETRAIN, BACKBONE, LENGTH})
_LENGTHS = "length-"


def length_protocol(epochs: int, rate: float = 1.0) -> str:
    """The protocol of a training as the target says, but for so many epochs, and at so many times
    its usual rate.
    """
    return f"{_LENGTHS}{epochs}" if rate == 1 else f"{_LENGTHS}{epochs}x{rate:.3g}"


def length_epochs(protocol: str) -> int | None:
    """The epochs of a `length_protocol`, at whatever rate; None for any other protocol."""
    if not protocol.startswith(_LENGTHS):
        return None
    return int(protocol.removeprefix(_LENGTHS).partition("x")[0])


def is_length(protocol: str, rate: float = 1.0) -> bool:
    """Whether a protocol is one of `length_protocol` at this rate."""
    epochs = length_epochs(protocol)
    return epochs is not None and protocol == length_protocol(epochs, rate)


_DIVISION = "seed-"


def division_name(seed: int) -> str:
    """Name under which a study keeps which images a seed's own division took for validation."""
    return f"{_DIVISION}{seed}"


def divided_seed(name: str) -> int | None:
    """The seed of a `division_name`; None for the name of a protocol."""
    return int(name.removeprefix(_DIVISION)) if name.startswith(_DIVISION) else None


def test_protocol(protocol: str) -> str:
    """The protocol under which scores on the test split stand, of runs trained by another."""
    return f"{protocol}/test"


TEST_PROTOCOL = test_protocol(TARGET_PROTOCOL)
