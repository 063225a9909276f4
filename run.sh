#!/usr/bin/env bash
# Runs the sample program: ./run.sh [ARGUMENTS], by default "passkey eval", the main job.
# Also as a process of an MPI job, after it has been built by a run without: mpiexec -n 4 ./run.sh lm spread.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/eng/find-dotnet.sh"
(( $# )) || set -- passkey eval
built=$root/artifacts/bin/LongContext/release/LongContext.dll
if [[ -n ${PMI_RANK:-}${PMIX_RANK:-} ]]; then # several processes must not build at once
  [[ -f $built ]] || { echo "run.sh: not built yet: run ./run.sh --help once, without mpiexec" >&2; exit 1; }
  exec dotnet "$built" "$@"
fi
exec dotnet run --project "$root/samples/LongContext" -c Release -- "$@"
