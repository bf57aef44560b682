"""What the check of a machine with a GPU says: one sentence for each finding."""

from __future__ import annotations

from typing import Any

from nas_attn.checkup.findings import (
    BesidePinning,
    CastTimes,
    EpochTime,
    FailedCapture,
    FarFromFloat64,
    Finding,
    Gpu,
    Mps,
    NearFloat64,
    NoAnswer,
    NoGpu,
    Precision,
    ProcessEnded,
    Raised,
    StepProfile,
    TwoCopies,
    Unrecorded,
    Versions,
    WaitingModule,
    WaitNoticed,
)
from nas_attn.words.doctor import mps_text


def finding_line(finding: Finding) -> str:
    """`ok   precision: bfloat16, which this GPU computes in`."""
    return f"{finding.state:4} {subject_text(finding)}: {finding_text(finding)}"


def finding_json(finding: Finding) -> dict[str, Any]:
    """As one JSON object, with its sentence."""
    return {
        "part": finding.part,
        "subject": subject_text(finding),
        "state": finding.state,
        "said": finding_text(finding),
        **finding.values,
    }


def subject_text(finding: Finding) -> str:
    """What was looked at. Of a capture that ended without a result, the name of its case."""
    match finding.fact:
        case FailedCapture(case="mended"):
            return "nas_attn after a failed capture"
        case FailedCapture():
            return "torch after a failed capture"
        case WaitNoticed():
            return "work that waits"
        case BesidePinning(mode):
            return f"beside pinning, mode {mode}"
    return finding.subject


def finding_text(finding: Finding) -> str:
    """What was found, in a sentence that begins in lower case."""
    fact = finding.fact
    match fact:
        case Raised(error):
            return error
        case Versions() | NoGpu() | Gpu() | Precision() | Mps():
            return _environment_text(fact)
        case NoAnswer() | ProcessEnded() | FailedCapture() | WaitNoticed() | BesidePinning():
            return _capture_text(fact)
        case NearFloat64() | FarFromFloat64() | WaitingModule():
            return _module_text(fact)
        case _:
            return _time_text(fact)


def _environment_text(fact: Versions | NoGpu | Gpu | Precision | Mps) -> str:
    match fact:
        case Versions(python, torch, cores, missing):
            if missing:
                return f"missing: {', '.join(missing)}; install nas-attn with its dependencies"
            return f"Python {python}, torch {torch}, {cores} cores"
        case NoGpu(None):
            return (
                "this torch is built without CUDA: install one of the builds with it from"
                " pytorch.org"
            )
        case NoGpu(cuda):
            return (
                f"torch (for CUDA {cuda}) sees no GPU: does nvidia-smi show one, is its driver"
                " recent enough, and is CUDA_VISIBLE_DEVICES unset?"
            )
        case Gpu(name, memory_gib, cuda):
            return f"{name}, {memory_gib:.1f} GiB, CUDA {cuda}"
        case Precision(bfloat16=True):
            return "bfloat16, which this GPU computes in"
        case Precision():
            return (
                "float32, since this GPU does not compute in bfloat16: training takes about twice"
                " as long"
            )
        case Mps(installed):
            return mps_text(installed=installed)


def _capture_text(
    fact: NoAnswer | ProcessEnded | FailedCapture | WaitNoticed | BesidePinning,
) -> str:
    match fact:
        case NoAnswer(seconds):
            return f"no answer within {seconds:g} s"
        case ProcessEnded(status, last_line):
            return f"the process ended with status {status}: {last_line or 'it printed nothing'}"
        case FailedCapture():
            return _failed_capture_text(fact)
        case WaitNoticed(noticed):
            if noticed:
                return "noticed before a capture"
            return "torch does not tell what waits for the GPU"
        case BesidePinning(error=""):
            return "works"
        case BesidePinning(used=True, error=error):
            return error
        case BesidePinning():
            return "fails, as expected; nas_attn does not use this mode"


def _failed_capture_text(fact: FailedCapture) -> str:
    if not fact.failed:
        return "a capture that reads a value did not fail"
    if fact.case == "mended":
        for operation, error in fact.errors.items():
            return f"{operation} fails: {error}"
        return "the process goes on, and records again"
    if fact.errors:
        broken = ", ".join(fact.errors)
        return f"it breaks {broken} (torch {fact.torch}); nas_attn puts that right"
    return "it leaves the process as it was"


def _module_text(fact: NearFloat64 | FarFromFloat64 | WaitingModule) -> str:
    match fact:
        case NearFloat64(float32, bfloat16):
            return f"float32 {float32:.0e}, bfloat16 {bfloat16:.0e} from float64"
        case FarFromFloat64(dtype, distance, most):
            far = f"{dtype} is {distance:.1e} from float64, more than {most:g}"
            return f"{far}: its results are wrong" if dtype == "float32" else far
        case WaitingModule(place):
            return f"waits for the GPU in each step, at {place}: it is not recorded"


def _time_text(fact: EpochTime | Unrecorded | StepProfile | CastTimes | TwoCopies) -> str:
    match fact:
        case EpochTime(epoch_s, images_per_s):
            return f"{round(epoch_s, 4)} s an epoch, {images_per_s:,.0f} images/s"
        case Unrecorded(reason):
            return f"no step was recorded: {reason or 'torch gave no reason'}"
        case StepProfile(kernels, device_ms):
            return f"{kernels:.0f} kernels and {round(device_ms, 3)} ms a step"
        case CastTimes(weights, apart_us, together_us, step_us):
            return (
                f"{weights} weights are cast in {apart_us:.0f} us, at once in {together_us:.0f} us:"
                f" this would save {100 * fact.saved_share:.1f} % of a step of"
                f" {step_us / 1e3:.2f} ms"
            )
        case TwoCopies(reference_ms, apart, steady):
            measured = f"{round(reference_ms, 4)} ms; two copies differ by {100 * apart:.1f} %"
            if steady:
                return measured
            return f"{measured}: the clock is unsteady, so measuring takes more sessions"
