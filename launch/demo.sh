#!/usr/bin/env bash
# Installs what is missing, builds, and makes a video with the demo model in runs/demo. Each further call
# makes a new one in runs/demo-2, runs/demo-3 ... Arguments go to `longtake generate`, for instance
#   ./launch/demo.sh --prompt "a blue square moving left on a white background" --seed -1
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/mpi_environment.sh

./launch/setup.sh
./launch/build.sh release

run=runs/demo
for ((n = 2; ; ++n)); do
  [ -e "$run" ] || break
  run=runs/demo-$n
done
# Two stages, which wait less for each other than two branches; what is not decoded beside is decoded at the end with
# all cores.
mpirun -n 2 --oversubscribe --bind-to none build/release/longtake generate configs/demo/run.yaml \
  --stages 2 --branches 1 --threads 1 -o "$run" "$@"

echo
echo "video    $run/video.mp4"
echo "preview  $run/preview.png"
echo "report   $run/report.txt"
echo "latents  $run/stream.h5"
