#!/usr/bin/env bash
# Checks and times everything of nas_attn that needs a GPU, the most telling first: docs/develop/gpu-check.md.
#
#   tools/gpu_check.sh OUT [--wheels DIR] [--data DIR] [--seconds N]
#
# OUT gets results.jsonl, a line of JSON for each result as soon as it is there, and log.txt.
#   --wheels DIR   packages that this machine lacks, as wheels; nothing is fetched from a network
#   --data DIR     CIFAR-10, whole or in part: see tools/gpu_check/images.py; without it, noise
#   --seconds N    no longer than this (570)
#
# DEVICE=cpu tries the script itself without a GPU. PYTHON names another Python than python3.
set -euo pipefail

usage() {
  sed -n '2,/^set /p' "$0" | sed -e '/^set /d' -e 's/^# \{0,1\}//'
  exit "${1:-2}"
}

began=$(date +%s)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
out=""
wheels=""
data=""
seconds=570
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage 0 ;;
    --wheels | --data | --seconds)
      [ $# -ge 2 ] || usage
      declare "${1#--}=$2"
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$out" ] || usage
      out=$1
      ;;
  esac
  shift
done
[ -n "$out" ] || usage
for folder in "$wheels" "$data"; do
  if [ -n "$folder" ] && [ ! -d "$folder" ]; then
    echo "error: there is no folder '$folder'" >&2
    exit 2
  fi
done

mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$root:$root/tools${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "$wheels" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$scratch/site" "$wheels"/*.whl
  export PYTHONPATH="$root:$root/tools:$scratch/site"
fi
export GPU_CHECK_DATA=""
if [ -n "$data" ]; then
  GPU_CHECK_DATA=$(cd "$data" && pwd)
fi
export PYTHONUNBUFFERED=1
DEVICE=${DEVICE:-cuda}
# Without a GPU the networks are tiny, and threads only wait for each other.
threads=4
[ "$DEVICE" = cuda ] || threads=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
# Nothing of the user's own caches is used or changed.
export XDG_CACHE_HOME="$scratch/cache"
export NAS_ATTN_LOCK_DIR="$scratch/locks"
left=$((seconds - $(date +%s) + began))
cd "$root"
"$python" -m gpu_check.steps "$out" --device "$DEVICE" --seconds "$left"
