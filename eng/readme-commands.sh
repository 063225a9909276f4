#!/usr/bin/env bash
# Runs the ```bash blocks of README.md and docs/, each in its own shell in the repository's root, and ends with "N passed, N failed".
# A block is skipped if the line before its fence is an HTML comment "<!-- not run: REASON -->".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
blocks=$(mktemp -d)
trap 'rm -rf "$blocks"' EXIT

awk -v folder="$blocks" '
  /^```bash$/ && before !~ /^<!-- not run: .+ -->$/ { block = sprintf("%s/%02d", folder, ++n); printf "# %s\n", FILENAME > block; next }
  /^```$/     { if (block) close(block); block = "" }
  block       { print > block }
  NF          { before = $0 }' README.md docs/*.md

passed=0 failed=0
for block in "$blocks"/*; do
  [[ -f $block ]] || continue
  echo "$(paste -sd ';' "$block")"
  if bash -euo pipefail "$block" </dev/null; then (( passed += 1 )); else (( failed += 1 )); echo "FAILED: the block above"; fi
done
echo "$passed passed, $failed failed"
(( failed == 0 ))
