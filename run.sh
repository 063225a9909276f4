#!/usr/bin/env bash
# Runs the sample program: ./run.sh [ARGUMENTS], by default "passkey eval", the main job. All set-up happens by itself.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/eng/setup.sh"

find_dotnet
choose_source
build "$root/samples/LongContext/LongContext.csproj"
(( $# )) || set -- passkey eval
export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-1} # one heap for all threads: what one frees is there for another, and memory stays level
exec dotnet "$built" "$@"
