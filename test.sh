#!/usr/bin/env bash
# Runs all tests: ./test.sh [ARGUMENTS OF dotnet test, such as --filter NAME]. All set-up happens by itself.
# The last line is the total: N passed, N failed (and N skipped, if any were).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/eng/setup.sh"

find_dotnet
choose_source

passed=0 failed=0 skipped=0
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

counter() { sed -nE "s/.*<Counters (.* )?$1=\"([0-9]+)\".*/\2/p" "$2" | head -n 1; }

for project in "$root"/tests/*/*.csproj; do
  build "$project"
  name=$(basename "$project" .csproj)
  trx=$results/$name.trx
  ended_well=1
  dotnet test "$built" --logger "trx;LogFileName=$name.trx" --results-directory "$results" "$@" || ended_well=0
  broken=0
  if [[ -f $trx ]]; then
    total=$(counter total "$trx") good=$(counter passed "$trx") executed=$(counter executed "$trx")
    (( passed += good, failed += executed - good, skipped += total - executed, broken = executed - good, 1 ))
  else
    ended_well=0
  fi
  if (( ! ended_well && ! broken )); then
    say "the run of $name broke off, which counts as one failure"
    (( failed += 1 ))
  fi
done

if (( ! $# )); then
  "$root/tests/scripts/run.sh" | tee "$results/scripts" || true
  read -r good _ bad _ < <(tail -n 1 "$results/scripts")
  (( passed += good, failed += bad, 1 ))
fi

(( passed + failed )) || say "no test ran"
echo "$passed passed, $failed failed$( (( skipped == 0 )) || echo ", $skipped skipped")"
(( passed > 0 && failed == 0 ))
