#!/usr/bin/env bash
# Runs the sample program: ./run.sh [ARGUMENTS], by default "passkey eval", the main job.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/eng/find-dotnet.sh"
(( $# )) || set -- passkey eval
exec dotnet run --project "$root/samples/LongContext" -c Release -- "$@"
