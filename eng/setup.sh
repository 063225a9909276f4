# Sourced by run.sh, test.sh and eng/pack.sh: finds .NET, TorchSharp or the subset with its libtorch, and builds.
#
#   TORCH_SOURCE          package, assembly or subset: overrides what was found and remembered
#   TORCH_BACKEND         cpu (default) or cuda: which native package goes with TORCH_SOURCE=package
#   TORCHSHARP_ASSEMBLY   the TorchSharp.dll of TORCH_SOURCE=assembly
#   LIBTORCH              a libtorch for the subset other than Debian's (the folder that holds include/ and lib/)
#
# Without TORCH_SOURCE the choice is made once and remembered in TorchSource.props, which Directory.Build.props imports, so that
# plain dotnet commands follow it. The variables above hold for one run and are not remembered.

program=$(basename "$0")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
memory=$root/TorchSource.props
lowest_torchsharp=$(sed -nE 's/.*Include="TorchSharp" Version="([^"]+)".*/\1/p' "$root/Directory.Packages.props")

say() { echo "$program: $*" >&2; }
die() { say "$*"; exit 1; }

find_dotnet() {
  if ! command -v dotnet >/dev/null && [[ -x $HOME/.dotnet/dotnet ]]; then PATH=$HOME/.dotnet:$PATH; fi
  local get="install the .NET SDK 10 from https://dotnet.microsoft.com/download"
  command -v dotnet >/dev/null || die "There is no .NET SDK on this machine: $get."
  # A minimal Linux has no ICU, without which .NET starts in this mode only.
  if [[ $(uname) == Linux && $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) != *libicuuc* ]]; then export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1; fi
  local newest
  newest=$(dotnet --list-sdks 2>/dev/null | cut -d. -f1 | sort -n | tail -n 1) || true
  [[ -n $newest ]] || die "This machine has the .NET runtime but not the SDK: $get."
  (( newest >= 10 )) || die "The newest .NET SDK on this machine is $newest, and 10 is the lowest that works: $get."
  export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
}

remembered() { [[ ! -f $memory ]] || sed -nE 's/.*<TorchSource [^>]*>([^<]*)<.*/\1/p' "$memory"; }

remember() {
  cat >"$memory" <<END
<Project>
  <!-- Written by $program: what the package feed allows. Without this file the next start looks again. -->
  <PropertyGroup>
    <TorchSource Condition="'\$(TorchSource)' == ''">$1</TorchSource>
  </PropertyGroup>
</Project>
END
}

# Restores an empty project with TorchSharp, outside the repository's own settings: 0 the feed has it, 1 it has not.
feed_has_torchsharp() {
  local probe=$root/artifacts/probe output
  mkdir -p "$probe"
  printf '<Project />\n' | tee "$probe/Directory.Build.props" "$probe/Directory.Build.targets" >"$probe/Directory.Packages.props"
  cat >"$probe/probe.csproj" <<END
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup>
  <ItemGroup><PackageReference Include="TorchSharp" Version="$lowest_torchsharp" /></ItemGroup>
</Project>
END
  if output=$(dotnet restore "$probe/probe.csproj" -v q 2>&1); then return 0; fi
  if grep -qE 'NU110[12]' <<<"$output"; then return 1; fi
  die "The package feed could not be asked for TorchSharp ($(grep -m 1 -oE 'error.*' <<<"$output" || tail -n 1 <<<"$output")): make it reachable, or set TORCH_SOURCE=subset to do without the package."
}

choose_source() {
  source=${TORCH_SOURCE:-$(remembered)}
  if [[ -z $source ]]; then
    say "looking for TorchSharp $lowest_torchsharp on the package feed"
    if feed_has_torchsharp; then source=package; else source=subset; say "the feed has none: using eng/TorchSharpSubset"; fi
    remember "$source"
  elif [[ $source == package && $(remembered) != package ]] && ! feed_has_torchsharp; then
    die "The package feed has no TorchSharp $lowest_torchsharp or later: unset TORCH_SOURCE, or set TORCH_SOURCE=subset."
  fi

  properties=(-p:TorchSource="$source")
  case $source in
    package)
      local backend=${TORCH_BACKEND:-cpu}
      [[ $backend == cpu || $backend == cuda ]] || die "TORCH_BACKEND is '$backend': allowed are cpu and cuda."
      properties+=(-p:TorchBackend="$backend") ;;
    assembly)
      local assembly=${TORCHSHARP_ASSEMBLY:-}
      [[ -n $assembly ]] || die "TORCH_SOURCE=assembly needs the file: set TORCHSHARP_ASSEMBLY to the path of a TorchSharp.dll."
      [[ -f $assembly ]] || die "TORCHSHARP_ASSEMBLY is '$assembly', which does not exist: set it to the path of a TorchSharp.dll."
      properties+=(-p:TorchSharpAssembly="$(cd "$(dirname "$assembly")" && pwd)/$(basename "$assembly")") ;;
    subset)
      find_native_tools
      properties+=(-p:LibTorch="${LIBTORCH:-}") ;;
    *) die "TORCH_SOURCE is '$source': allowed are package, assembly and subset." ;;
  esac
}

# A libtorch-dev that was there before may have come with the OpenBLAS whose threads fight those of libtorch; Debian prefers it.
warn_of_slow_openblas() { # warn_of_slow_openblas FOLDER
  [[ $(readlink -f "$1/libopenblas.so.0" "$1/libblas.so.3") != */openblas-pthread/* ]] ||
    say "libopenblas0-pthread makes attention several times slower: 'apt-get install libopenblas0-openmp libopenblas0-pthread-' replaces it"
}

# The subset's native part needs a libtorch with headers, a C++ compiler and cmake; what is missing comes from Debian's packages.
find_native_tools() {
  local missing=() found status=0
  libtorch_version=
  [[ ${LIBTORCH:-} != /usr ]] || LIBTORCH=
  found=$("$root/eng/find-libtorch.sh" "${LIBTORCH:-/usr}" 2>&1) || status=$?
  case $status in
    0) libtorch_version=${found%% *}; [[ -n ${LIBTORCH:-} ]] || warn_of_slow_openblas "/usr/lib/$(uname -m)-linux-gnu" ;;
    3) missing+=(libtorch-dev libopenblas0-openmp) ;;
    *) die "$found" ;;
  esac
  command -v c++ >/dev/null || missing+=(g++)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || command -v ninja >/dev/null || missing+=(make)
  (( ${#missing[@]} )) || return 0

  command -v apt-get >/dev/null ||
    die "The TorchSharp subset needs a libtorch from 1.13 on with its headers (name its folder in LIBTORCH), a C++17 compiler, cmake and make; on Debian the missing ones are the packages ${missing[*]}: install them and start again."
  local as=()
  if (( EUID != 0 )); then
    as=(sudo)
    command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; } ||
      die "Missing Debian packages: ask an administrator to run 'apt-get install ${missing[*]}', then start again."
  fi
  say "installing ${missing[*]}"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
  mkdir -p "$root/artifacts"
  { ${as[@]+"${as[@]}"} apt-get update -q && ${as[@]+"${as[@]}"} "${install[@]}"; } >"$root/artifacts/apt.log" 2>&1 </dev/null ||
    die "Installing ${missing[*]} failed ($(grep -m 1 '^E:' "$root/artifacts/apt.log" || tail -n 1 "$root/artifacts/apt.log")): run 'apt-get install ${missing[*]}' as root and start again."
  found=$("$root/eng/find-libtorch.sh" "${LIBTORCH:-/usr}" 2>&1) || die "$found"
  libtorch_version=${found%% *}
}

# build PROJECT: builds it in Release and sets $built to its dll; does nothing if nothing has changed since the last time.
build() {
  local name key stamp
  name=$(basename "$1" .csproj)
  key=$(printf '%s\n' "${properties[@]}" "${libtorch_version:-}" "$root" "$(uname -m)" | cksum | cut -d' ' -f1)
  stamp=$root/artifacts/stamps/$name-$key
  mkdir -p "$root/artifacts/stamps"
  if [[ -f $stamp ]]; then
    built=$(<"$stamp")
    [[ ! -f $built || -n $(changed_since "$stamp") ]] || return 0
  fi
  say "building $name"
  rm -f "$stamp"; : >"$stamp.new"
  dotnet build "$1" -c Release "${properties[@]}" -v q --nologo >"$stamp.log" 2>&1 || { build_errors "$stamp.log"; die "Building $name failed; the whole log is $stamp.log."; }
  built=$(dotnet msbuild "$1" -p:Configuration=Release "${properties[@]}" -getProperty:TargetPath)
  [[ -f $built ]] || die "Building $name broke off without $built; the whole log is $stamp.log."
  # The stamp bears the time at which the build began: what was edited meanwhile counts as changed.
  touch -r "$stamp.new" "$stamp.log"; printf '%s\n' "$built" >"$stamp.new"; touch -r "$stamp.log" "$stamp.new"
  mv "$stamp.new" "$stamp"
}

changed_since() {
  cd "$root" && find src tests samples bench eng docs README.md .editorconfig Directory.*.* -newer "$1" 2>/dev/null | head -n 1
}

build_errors() { grep -E 'error|FATAL' "$1" | sed -E 's/ \[[^]]*proj(::[^]]*)?\]$//' | sort -u | head -n 20 >&2 || tail -n 20 "$1" >&2; }
