#!/usr/bin/env bash
# Runs all tests: ./test.sh [ARGUMENTS OF dotnet test, such as --filter NAME].
# The last line is the total: N passed, N failed (and N skipped, if any were).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/eng/find-dotnet.sh"
cd "$root"

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
status=0
dotnet build InfiniAttention.sln -c Release -v q --nologo
# One project after the other: each uses both cores.
dotnet test InfiniAttention.sln -c Release --no-build --nologo -m:1 --logger trx --results-directory "$results" "$@" || status=$?

# With --collect "XPlat Code Coverage": the line coverage of the library.
coverage=$(find "$results" -name coverage.cobertura.xml -exec sed -nE 's/.*<package name="InfiniAttention" line-rate="([0-9.]+)".*/\1/p' {} + | sort -n | tail -n 1)
[[ -z $coverage ]] || awk -v rate="$coverage" 'BEGIN { printf "line coverage of src: %.1f %%\n", 100 * rate }'

total() { local sum=0 n; for n in $(sed -nE "s/.*<Counters (.* )?$1=\"([0-9]+)\".*/\2/p" "$results"/*.trx 2>/dev/null); do (( sum += n, 1 )) || true; done; echo $sum; }
passed=$(total passed) executed=$(total executed) all=$(total total)
failed=$(( executed - passed )) skipped=$(( all - executed ))
if (( status != 0 && failed == 0 )); then
  echo "test.sh: a test run was aborted, which counts as one failure" >&2
  failed=1
fi
(( passed + failed )) || echo "test.sh: no test ran" >&2
echo "$passed passed, $failed failed$( (( skipped == 0 )) || echo ", $skipped skipped")"
(( passed > 0 && failed == 0 ))
