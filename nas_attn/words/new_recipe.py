"""What `init` asks and says, and the recipe that it writes."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.errors import did_you_mean

TEMPLATE = """\
# A study: which attention module helps, at which stage of the backbone, with which settings?
# Start it with:  nas-attn search {path}
name = {name}
# The search space: plug_and_play, channel, ela, spatial_and_channel, detector, small, or a path.
space = {space}
objectives = [{objectives}]        # {metrics}, {costs}
{task}
[backbone]
name = {backbone}                # {backbones_known}
{options}
[data]
name = {data}                    # {data_known}
root = "data"                      # folder for downloaded files
{folder}
[target]                           # how you will train the network in the end
# scratch, or pretrained with weights = "default" (published ones) or your file
start = "{start}"
{weights}epochs = {epochs}
seeds = 8                          # runs of each network in `nas-attn test`

# The search trains as the target does, unless `start` and `rungs` stand here.
[training]
batch_size = {batch_size}
{lines}{augment}
[latency]
device = "cpu"                     # where the network will run: cpu or cuda
batch_size = 1

[search]
trials = {trials}
sampler = "auto"                   # {samplers}
confirm_seeds = 3                  # more seeds for the networks that matter after the search

[limits]
{limit}

[answer]
# The smallest gain worth its latency; default: a tenth of the best gain or of the noise.
# worth = 0.01
"""
AUGMENT = """\
augment = [{augment}]   # flip is wrong for digits and text; or transforms of torchvision, by name
"""
LIMIT_QUESTION = "Largest latency relative to the bare backbone's (none: no limit)"
TARGET_QUESTION = (
    "How will you train the network in the end: scratch, weights (published ones), or a file of"
    " weights?"
)
VALIDATION_FOLD_QUESTION = "Fold for validation"
TEST_FOLD_QUESTION = "Fold for the final test"
FLIP_AND_CROP = '{ name = "flip" }, { name = "crop", padding = 4 }'
NO_LIMIT = "# max_latency_ratio = 1.3"


def data_question(names: Sequence[str]) -> str:
    """Asks for the data set, one of those known or a folder."""
    return f"Data set ({', '.join(names)})"


def no_terminal_line(taken: Sequence[str]) -> str:
    """Which defaults were used, as nobody could be asked."""
    return f"there is no terminal, so defaults were used: {' '.join(taken)}"


def written_lines(path: str, quoted: str) -> str:
    """What was written, and the next command. `quoted`: the path as in a command."""
    return f"wrote {path}\nnext: nas-attn search {quoted} --dry-run"


def folds_line(folds: int) -> str:
    """What folds are for."""
    others = "the other trains"
    if folds > 2:
        others = "one may be kept for the final test, the others train"
    return f"the folder has {folds} folds: one validates, {others}"


def no_fold_line(shown: str, answer: str, names: Sequence[str]) -> str:
    """That an answer is no fold. `shown`: as it can be printed."""
    return f"there is no '{shown}': {did_you_mean(answer, names)}"


def encoder_line(option: str) -> str:
    """A comment that names a segmentation network's trained encoder."""
    return f"# options = {{ {option} }}   # a trained encoder; downloaded once\n"


def preset_line(preset: str | None) -> str:
    """The line of the preset that a network with layer norms needs; empty without one."""
    if preset is None:
        return ""
    comment = "# AdamW: with SGD, networks with layer norms often learn nothing"
    return f'preset = "{preset}"              {comment}\n'


def auto_epochs(auto: str) -> str:
    """The value of `epochs` that leaves the length open, with its comment."""
    return f'"{auto}"   # as long as the bare network needs, which the study finds; or a number'
