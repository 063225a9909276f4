#!/usr/bin/env bash
# Checks the libtorch under a prefix (default: LIBTORCH, else /usr) and prints "VERSION LIBRARY".
# Exit 1 with one sentence if it cannot be used; exit 3 if there is none under /usr, where a package manager can put one.
set -euo pipefail
prefix=${1:-${LIBTORCH:-/usr}}
lowest=1.13

refuse() { echo "$1" >&2; exit "${2:-1}"; }

another="name a libtorch of version $lowest or later for $(uname -m) in LIBTORCH (the folder that holds include/ and lib/)"
[[ $prefix == /usr ]] || another+=", or unset LIBTORCH to use Debian's libtorch-dev"

[[ -d $prefix ]] || refuse "LIBTORCH is '$prefix', which is not a folder: $another."

headers=
for file in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
  if [[ -f $prefix/include/$file ]]; then headers=$prefix/include/$file; break; fi
done
library=
for folder in lib "lib/$(uname -m)-linux-gnu" lib64; do
  if [[ -e $prefix/$folder/libtorch_cpu.so ]]; then library=$prefix/$folder/libtorch_cpu.so; break; fi
done

if [[ -z $headers && -z $library ]]; then
  [[ $prefix == /usr ]] && refuse "There is no libtorch on this machine: install libtorch-dev, or $another." 3
  refuse "There is no libtorch in '$prefix': $another."
elif [[ -z $headers ]]; then
  [[ $prefix == /usr ]] && refuse "The libtorch in $library has no headers: install libtorch-dev, or $another." 3
  refuse "The libtorch in '$prefix' has no headers (include/torch): $another."
elif [[ -z $library ]]; then
  refuse "The libtorch in '$prefix' has headers but no lib/libtorch_cpu.so: $another."
fi

number() { sed -nE "s/^#define TORCH_VERSION_$1 ([0-9]+).*/\1/p" "$headers"; }
version=$(number MAJOR).$(number MINOR)
if [[ $(printf '%s\n' "$lowest" "$version" | sort -V | head -n 1) != "$lowest" ]]; then
  refuse "The libtorch in '$prefix' is version $version, and $lowest is the lowest that works: $another."
fi

machine() { od -An -tu2 -j18 -N2 "$1" | tr -d ' '; }   # e_machine of an ELF file
if [[ $(machine "$library") != $(machine "$BASH") ]]; then
  refuse "The libtorch in '$prefix' is for another architecture than $(uname -m): $another."
fi

echo "$version $library"
