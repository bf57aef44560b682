#!/bin/sh
# A Raspberry Pi, a Jetson, any machine with ssh, python3, numpy and onnxruntime or openvino.
#   [latency]
#   mode = "command"
#   command = "sh runners/devices/ssh.sh pi@raspberry onnxruntime 4 {onnx}"     # host, runtime, threads
set -eu
scp -q "$4" "$1:/tmp/nas_attn.onnx" >&2
scp -q "$(dirname "$0")/time_onnx.py" "$1:/tmp/nas_attn_time.py" >&2
ssh "$1" "python3 /tmp/nas_attn_time.py /tmp/nas_attn.onnx $2 $3"
