# Sourced by run.sh, test.sh and eng/pack.sh: finds the .NET SDK, or says in one sentence what is missing.
needed=10
if ! command -v dotnet >/dev/null; then
  echo "The .NET SDK $needed is needed and dotnet is not on the PATH: install it from https://dotnet.microsoft.com/download." >&2
  exit 1
fi
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=${DOTNET_SYSTEM_GLOBALIZATION_INVARIANT:-1} # works on a Linux without ICU
if ! dotnet --list-sdks 2>/dev/null | grep -qE "^($needed|1[1-9]|[2-9][0-9])\."; then
  echo "The .NET SDK $needed is needed; dotnet has: $(dotnet --list-sdks 2>/dev/null | cut -d' ' -f1 | paste -sd' ' || true). Install it from https://dotnet.microsoft.com/download." >&2
  exit 1
fi
