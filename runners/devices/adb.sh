#!/bin/sh
# An Android phone, by adb and ONNX Runtime's onnxruntime_perf_test, which you build for Android and push to /data/local/tmp.
#   [latency]
#   mode = "command"
#   command = "sh runners/devices/adb.sh {onnx}"                # or: adb.sh -e nnapi {onnx}, or with -x 4 threads
set -eu
for onnx; do :; done
options=""
while [ "$#" -gt 1 ]; do options="$options $1"; shift; done
adb push "$onnx" /data/local/tmp/nas_attn.onnx >&2
adb shell "cd /data/local/tmp && ./onnxruntime_perf_test -I -m times -r 50$options nas_attn.onnx" |
  sed -n 's/^P50 Latency: *\([0-9.e+-]*\) s.*/\1/p' | awk '{ print 1000 * $1 }'
