# shellcheck shell=bash
# Sourced by the scripts: Open MPI refuses to run as root unless told twice. In containers root is usual.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
