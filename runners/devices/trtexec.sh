#!/bin/sh
# TensorRT, by NVIDIA's trtexec: the median time on the GPU.
#   [latency]
#   mode = "command"
#   command = "sh runners/devices/trtexec.sh --fp16 {onnx}"     # or --int8, or no option
set -eu
for onnx; do :; done
options=""
while [ "$#" -gt 1 ]; do options="$options $1"; shift; done
# shellcheck disable=SC2086 # each option is a word of its own
trtexec --onnx="$onnx" $options | sed -n 's/.*GPU Compute Time:.*median = \([0-9.e+-]*\) ms.*/\1/p'
