"""A Rockchip NPU, by rknn-toolkit2 on this machine and a board connected by USB or network.

    [latency]
    mode = "command"
    command = "python runners/devices/rockchip.py rk3588 {onnx}"

Prints the milliseconds of one frame, as `eval_perf` reports them. The network runs in float16; see
Rockchip's manual for int8.
"""

from __future__ import annotations

import contextlib
import re
import sys


def main(target: str, onnx: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # the toolkit prints a lot
        from rknn.api import RKNN  # type: ignore[import-not-found]

        rknn = RKNN(verbose=False)
        rknn.config(target_platform=target)
        for done in (
            rknn.load_onnx(model=onnx),
            rknn.build(do_quantization=False),
            rknn.init_runtime(target=target, perf_debug=True),
        ):
            if done != 0:
                sys.exit(f"rknn-toolkit2 ended with {done}")
        said = str(rknn.eval_perf(is_print=False))
        rknn.release()
    found = re.search(r"Total (?:Operator Elapsed Per Frame )?Time\(us\):\s*([\d.]+)", said)
    if found is None:
        sys.exit(f"eval_perf says no total time: {said[:200]}")
    print(float(found[1]) / 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
