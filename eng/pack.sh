#!/usr/bin/env bash
# Creates the NuGet packages, checks their contents, installs them into a throw-away project and runs that.
# Usage: eng/pack.sh [VERSION]     Without VERSION each package gets a new version, so that no older one in a cache shadows it.
# The package is written to artifacts/pack/feed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/eng/find-dotnet.sh"
out=$root/artifacts/pack
library=$root/src/InfiniAttention/InfiniAttention.csproj
version=${1:-$(dotnet msbuild "$library" -getProperty:Version)-local.$(date -u +%Y%m%d%H%M%S)}
rm -rf "$out" && mkdir -p "$out/feed" "$out/consumer"

address=$({ git -C "$root" remote get-url origin 2>/dev/null || true; } | sed -E 's#^git@([^:]+):#https://\1/#; s#\.git$##')
properties=(-p:Version="$version" -p:PackageReadme="$out/README.md" -p:ContinuousIntegrationBuild=true)
[[ $address != https://* ]] || properties+=(-p:PackageProjectUrl="$address")

# The readme that a package feed shows: links into the repository become absolute URLs, or plain text without a remote;
# charts (feeds show no SVG) and comments (feeds show them) are left out.
link='\1'
[[ $address != https://* ]] || link="[\\1]($address/blob/$(git -C "$root" rev-parse HEAD)/\\2)"
sed -E -e '/^(!\[|<!--)/d' -e "s@\[([^]]*)\]\(([^):#]+(#[^)]*)?)\)@$link@g" "$root/README.md" >"$out/README.md"

for project in "$library" "$root/src/InfiniAttention.Mpi/InfiniAttention.Mpi.csproj"; do
  dotnet pack "$project" "${properties[@]}" -c Release -o "$out/feed" -v q --nologo
  dotnet run "$root/eng/package/CheckPackage.cs" -- "$out/feed/$(basename "$project" .csproj).$version.nupkg"
done

# A project without the repository's settings, built for both frameworks and run on the newer one.
cd "$out/consumer"
for file in Directory.Build.props Directory.Build.targets Directory.Packages.props; do echo '<Project />' >$file; done
cp "$root/eng/package/Consumer.cs" Program.cs
cat >Consumer.csproj <<END
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFrameworks>net8.0;net10.0</TargetFrameworks>
    <ImplicitUsings>enable</ImplicitUsings>
    <Nullable>enable</Nullable>
    <UseAppHost>false</UseAppHost>
    <InvariantGlobalization>true</InvariantGlobalization>
    <CreateHardLinksForCopyLocalIfPossible>true</CreateHardLinksForCopyLocalIfPossible>
    <RestoreAdditionalProjectSources>$out/feed</RestoreAdditionalProjectSources>
    <TorchSharpOnOlderLinux>true</TorchSharpOnOlderLinux>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="InfiniAttention.Mpi" Version="$version" />
    <PackageReference Include="libtorch-cpu-linux-x64" Version="2.10.0" />
  </ItemGroup>
</Project>
END
dotnet build -c Release -v q --nologo
dotnet bin/Release/net10.0/Consumer.dll
