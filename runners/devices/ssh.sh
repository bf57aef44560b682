#!/bin/sh
# A Raspberry Pi, a Jetson, any machine with ssh, python3, numpy and onnxruntime or openvino.
#   [latency]
#   mode = "command"
#   command = "sh runners/devices/ssh.sh pi@raspberry onnxruntime 4 {onnx}"     # host, runtime, threads
set -eu
program=$(dirname "$0")/../../nas_attn/latency/paired.py
scp -q "$4" "$1:/tmp/nas_attn.onnx" >&2
scp -q "$program" "$1:/tmp/nas_attn_measure.py" >&2
ssh "$1" "python3 /tmp/nas_attn_measure.py /tmp/nas_attn.onnx --mode $2 --threads $3"
