#!/usr/bin/env bash
# Installs what longtake needs from the distribution's packages (Debian 12, Ubuntu 24.04). With --slurm also
# what tests/slurm starts: a Slurm of its own. Says and does nothing when all of it is there.
set -euo pipefail

packages=(
  git ca-certificates
  g++ cmake ninja-build pkg-config ccache
  openmpi-bin libopenmpi-dev
  libdnnl-dev libfmt-dev libspdlog-dev libcli11-dev libyaml-cpp-dev nlohmann-json3-dev
  libhdf5-dev libpng-dev zlib1g-dev libssl-dev libxxhash-dev
  libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
  libsentencepiece-dev libutf8proc-dev
  doctest-dev
)
if [ "${1:-}" = --slurm ]; then
  packages+=(slurmctld slurmd slurm-client munge procps)
fi

fail() {
  echo "setup.sh: $*" >&2
  exit 1
}

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v dpkg-query >/dev/null; then
  # Another distribution: cmake names what is missing.
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup.sh: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    fail "these packages are missing, and there is neither root nor sudo: ${missing[*]}"
  as_root=(sudo)
fi

# Another apt may hold the lock for a while, and mirrors fail now and then: wait, and try twice.
apt() {
  local command=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@")
  "${command[@]}" && return
  echo "setup.sh: apt-get $1 failed, trying once more in 10 s" >&2
  sleep 10
  "${command[@]}"
}

apt update
apt install -y --no-install-recommends "${missing[@]}"
