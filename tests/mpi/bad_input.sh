#!/usr/bin/env bash
# Weights that turn out bad while one rank reads them: one message, its exit code, and no run folder of the
# rank that writes.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# file, NaN in the type of its first tensor (little endian), expected text
try() {
  local file=$1 nan=$2 text=$3 code=0 header
  rm -rf "$folder/model" "$folder/run"
  cp -r "$LONGTAKE_SOURCE_DIR/configs/demo/model" "$folder/model"
  header=$(od -An -tu8 -N8 "$folder/model/$file")
  printf "$nan" | dd of="$folder/model/$file" bs=1 seek=$((8 + header)) conv=notrunc status=none
  timeout 60 mpirun -n 3 --oversubscribe --bind-to none "$LONGTAKE_BINARY" generate --model "$folder/model" \
    -p "a red circle" --size 64x64 --num-frames 93 --steps 4 --seed 7 --stages 3 --branches 1 --threads 1 \
    --no-progress -o "$folder/run" >"$folder/log" 2>&1 || code=$?
  grep '^longtake:' "$folder/log" || true
  [ "$code" -eq 65 ] || { echo "$file: expected exit code 65, found $code"; cat "$folder/log"; return 1; }
  [ "$(grep -c '^longtake:' "$folder/log")" -eq 1 ] || { echo "$file: expected one message"; return 1; }
  grep -q "$file.*$text" "$folder/log" || { echo "$file: no message like '$text'"; return 1; }
  [ ! -e "$folder/run" ] || { echo "$file: the run folder was left"; ls -R "$folder/run"; return 1; }
}

try transformer/diffusion_pytorch_model.safetensors '\300\177\300\177' "found NaN or infinity"
try text_encoder/model.safetensors '\000\000\300\177' "found NaN or infinity"
try vae/diffusion_pytorch_model.safetensors '\300\177\300\177' "found NaN or infinity"
