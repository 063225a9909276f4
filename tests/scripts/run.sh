#!/usr/bin/env bash
# Tests of the set-up: every mistake ends in one sentence that names the remedy, and a non-zero exit. Last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
unset TORCH_SOURCE TORCH_BACKEND TORCHSHARP_ASSEMBLY LIBTORCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
passed=0 failed=0

outcome() { # outcome OK NAME [DETAIL]
  if (( $1 )); then (( passed += 1 )); else (( failed += 1 )); echo "FAILED scripts: $2"; printf '%s\n' "${3:-}" | sed 's/^/    /'; fi
}

refuses() { # refuses NAME SENTENCE COMMAND...: the command fails, and its last line is the sentence (a regular expression)
  local name=$1 sentence=$2 output status=0
  shift 2
  output=$("$@" 2>&1 </dev/null) || status=$?
  [[ $status != 0 && $(tail -n 1 <<<"$output") =~ $sentence ]]
  outcome $(( ! $? )) "$name" "exit $status, wanted: $sentence"$'\n'"$output"
}

build_refuses() { # the same for MSBuild, which puts its errors among other lines
  local name=$1 sentence=$2 output status=0
  shift 2
  output=$("$@" 2>&1 </dev/null) || status=$?
  [[ $status != 0 && $output =~ $sentence ]]
  outcome $(( ! $? )) "$name" "exit $status, wanted: $sentence"$'\n'"$output"
}

# A folder with just enough of a libtorch to be examined: VERSION, or - for no headers; the first bytes of its library, or none.
make_libtorch() { # make_libtorch NAME MAJOR.MINOR|- [FILE]
  local at=$work/$1
  mkdir -p "$at/include/torch/csrc/api/include/torch" "$at/lib"
  [[ $2 == - ]] || printf '#define TORCH_VERSION_MAJOR %s\n#define TORCH_VERSION_MINOR %s\n' "${2%.*}" "${2#*.}" \
    >"$at/include/torch/csrc/api/include/torch/version.h"
  [[ -z ${3:-} ]] || head -c 64 "$3" >"$at/lib/libtorch_cpu.so"
}
{ head -c 18 "$BASH"; printf '\377\377'; } >"$work/foreign"
make_libtorch good 2.6 "$BASH"
make_libtorch old 1.12 "$BASH"
make_libtorch headless - "$BASH"
make_libtorch bodiless 2.6
make_libtorch foreign-machine 2.6 "$work/foreign"
mkdir "$work/nothing"

subset() { env TORCH_SOURCE=subset "$@"; }
remedy='name a libtorch of version 1.13 or later .* in LIBTORCH .*, or unset LIBTORCH to use Debian.s libtorch-dev\.$'
for script in run.sh test.sh; do
  refuses "$script: LIBTORCH points nowhere" "^$script: LIBTORCH is '/nowhere', which is not a folder: $remedy" subset LIBTORCH=/nowhere ./$script
done
refuses "LIBTORCH without libtorch" "There is no libtorch in '$work/nothing': $remedy" subset LIBTORCH="$work/nothing" ./run.sh
refuses "libtorch too old" "is version 1.12, and 1.13 is the lowest that works: $remedy" subset LIBTORCH="$work/old" ./run.sh
refuses "libtorch without headers" "has no headers .*: $remedy" subset LIBTORCH="$work/headless" ./run.sh
refuses "libtorch without library" "has headers but no lib/libtorch_cpu.so: $remedy" subset LIBTORCH="$work/bodiless" ./run.sh
refuses "libtorch of another architecture" "is for another architecture than $(uname -m): $remedy" subset LIBTORCH="$work/foreign-machine" ./run.sh

refuses "unknown TORCH_SOURCE" "TORCH_SOURCE is 'pakage': allowed are package, assembly and subset\.$" env TORCH_SOURCE=pakage ./run.sh
refuses "assembly without a file" "set TORCHSHARP_ASSEMBLY to the path of a TorchSharp.dll\.$" env TORCH_SOURCE=assembly ./run.sh
refuses "assembly that is not there" "'/no.dll', which does not exist: set it to the path" env TORCH_SOURCE=assembly TORCHSHARP_ASSEMBLY=/no.dll ./run.sh

mkdir -p "$work/blas/openblas-pthread" "$work/blas/openblas-openmp"
: | tee "$work"/blas/openblas-{pthread,openmp}/libopenblas.so.0 >/dev/null
for threads in pthread openmp; do
  ln -sf "openblas-$threads/libopenblas.so.0" "$work/blas/libopenblas.so.0"
  output=$(bash -c 'source eng/setup.sh; warn_of_slow_openblas "$0"' "$work/blas" 2>&1)
  [[ $threads == openmp && -z $output || $threads == pthread && $output =~ replaces\ it$ ]]
  outcome $(( ! $? )) "OpenBLAS with $threads" "$output"
done

# A copy of the scripts alone, so that nothing here touches what this tree remembers.
mkdir "$work/copy" && cp -R run.sh eng Directory.Packages.props "$work/copy" && chmod -R a+rwX "$work/copy"
without_torchsharp() { env RestoreSources="$work/nothing" RestoreAdditionalProjectSources= NUGET_PACKAGES="$work/packages" "$@"; }
refuses "package on a feed that has none" "The package feed has no TorchSharp .*: unset TORCH_SOURCE, or set TORCH_SOURCE=subset\.$" \
  without_torchsharp TORCH_SOURCE=package "$work/copy/run.sh"
refuses "unknown TORCH_BACKEND" "TORCH_BACKEND is 'tpu': allowed are cpu and cuda\.$" \
  bash -c 'source "$0/eng/setup.sh"; feed_has_torchsharp() { true; }; TORCH_SOURCE=package TORCH_BACKEND=tpu choose_source' "$work/copy"
output=$(without_torchsharp LIBTORCH=/nowhere "$work/copy/run.sh" 2>&1)
grep -q '>subset<' "$work/copy/TorchSource.props"
outcome $(( ! $? )) "a feed without TorchSharp chooses the subset and is remembered" "$output"
refuses "packing without TorchSharp" "Packing needs TorchSharp .*, and the package feed has none: give a feed that has it" \
  without_torchsharp "$work/copy/eng/pack.sh"
refuses "packing with a feed that is not there" "'/no/feed' is neither a folder nor an address: give" "$work/copy/eng/pack.sh" /no/feed

# Machines that lack tools: a PATH with what the scripts need and nothing else.
mkdir "$work/bin" "$work/none" && printf '#!/bin/sh\necho "E: no such package"\nexit 100\n' >"$work/apt-get" && chmod 755 "$work/apt-get"
for tool in bash basename cat cut dirname dotnet env grep head ldconfig mkdir od sed sort tail touch tr uname; do
  ln -s "$(PATH=$PATH:/sbin:/usr/sbin command -v $tool)" "$work/bin/$tool"
done
bare() { "${as[@]}" env -i HOME="$work/none" PATH="$work/bin" DOTNET_CLI_HOME="$work/none" TORCH_SOURCE=subset LIBTORCH="$work/good" "$@"; }
as=(env) as_nobody=(env)
if (( EUID == 0 )); then as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups); fi
refuses "no compiler, no Debian" "needs a libtorch from 1.13 on .*, a C\+\+17 compiler, cmake and make; .* g\+\+ cmake make: install them" \
  bare bash "$work/copy/run.sh"
ln -s "$work/apt-get" "$work/bin/apt-get"
as=("${as_nobody[@]}")
refuses "no right to install" "ask an administrator to run 'apt-get install g\+\+ cmake make', then start again\.$" bare bash "$work/copy/run.sh"
as=(env)
if (( EUID == 0 )); then
  refuses "installing fails" "failed \(E: no such package\): run 'apt-get install g\+\+ cmake make' as root and start again\.$" bare bash "$work/copy/run.sh"
fi
rm "$work/bin/dotnet"
refuses "no .NET" "There is no .NET SDK on this machine: install the .NET SDK 10 from https://" bare bash "$work/copy/run.sh"
printf '#!/bin/sh\necho "8.0.404 [/usr/share/dotnet/sdk]"\n' >"$work/bin/dotnet" && chmod 755 "$work/bin/dotnet"
refuses ".NET too old" "The newest .NET SDK on this machine is 8, and 10 is the lowest that works: install" bare bash "$work/copy/run.sh"
printf '#!/bin/sh\nexit 1\n' >"$work/bin/dotnet"
refuses ".NET without SDK" "This machine has the .NET runtime but not the SDK: install" bare bash "$work/copy/run.sh"

library=(src/InfiniAttention -p:ArtifactsPath="$work/artifacts")
build_refuses "dotnet build, assembly without a file" "error TORCH003: .*add -p:TorchSharpAssembly=" dotnet build "${library[@]}" -p:TorchSource=assembly
build_refuses "dotnet build, assembly that is not there" "error TORCH004: .*'/no.dll', which does not exist" \
  dotnet build "${library[@]}" -p:TorchSource=assembly -p:TorchSharpAssembly=/no.dll
build_refuses "dotnet build, unknown source" "error TORCH001: .*allowed are package, assembly and subset" dotnet build "${library[@]}" -p:TorchSource=other
build_refuses "dotnet pack with the subset" "error TORCH005: A package can be made with TorchSource=package only" \
  dotnet pack "${library[@]}" -p:TorchSource=subset
build_refuses "dotnet restore, package on a feed that has none" "run \./test.sh or \./run.sh once" \
  without_torchsharp dotnet restore "${library[@]}" -p:TorchSource=package

echo "$passed passed, $failed failed"
(( failed == 0 ))
