#!/usr/bin/env bash
# Makes the NuGet packages, checks what is in them, installs them into a throw-away project and runs that.
# Usage: eng/pack.sh [FEED]     FEED: a folder or address with TorchSharp and TorchSharp-cpu, such as one made from TorchSharp's source;
#                               without it the configured package feeds must have them.
# The packages end up in artifacts/pack/feed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
out=$root/artifacts/pack
torch_feed=${1:-}

find_dotnet
rm -rf "$out" && mkdir -p "$out/feed"
# The consumer must get what was just packed, and a TorchSharp from FEED must not stay behind as if it were the published one.
export NUGET_PACKAGES=$out/cache
if [[ -n $torch_feed ]]; then
  if [[ -d $torch_feed ]]; then torch_feed=$(cd "$torch_feed" && pwd)
  elif [[ $torch_feed != http*://* ]]; then die "'$torch_feed' is neither a folder nor an address: give the package feed that has TorchSharp."; fi
  export RestoreAdditionalProjectSources=$torch_feed
fi
feed_has_torchsharp ||
  die "Packing needs TorchSharp $lowest_torchsharp or later, and ${torch_feed:-the package feed} has none: give a feed that has it, as in '$0 FOLDER'."

# The page that a package feed shows: links into the repository become addresses, or plain text where no remote has one;
# charts (feeds show no SVG) and comments (feeds show them) are left out.
packed_readme() {
  local address link='\1'
  address=$({ git -C "$root" remote get-url origin 2>/dev/null || true; } | sed -E 's#^git@([^:]+):#https://\1/#; s#\.git$##')
  if [[ $address == https://* ]]; then link="[\\1]($address/blob/$(git -C "$root" rev-parse HEAD)/\\2)"; fi
  sed -E -e '/^(!\[|<!--)/d' -e "s@\[([^]]*)\]\(([^):#]+(#[^)]*)?)\)@$link@g" "$root/README.md" >"$out/README.md"
}

library=$root/src/InfiniAttention/InfiniAttention.csproj
properties=(-p:TorchSource=package)
packed_readme
version=$(dotnet msbuild "$library" "${properties[@]}" -getProperty:Version)
dotnet pack "$library" "${properties[@]}" -p:ContinuousIntegrationBuild=true -p:PackageReadme="$out/README.md" -c Release -o "$out/feed" -v q --nologo
dotnet run "$root/eng/package/CheckPackage.cs" -- "$out/feed/InfiniAttention.$version.nupkg"

# A project outside the repository's own settings, for both frameworks; it runs on the newer one.
mkdir "$out/consumer" && cd "$out/consumer"
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
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="InfiniAttention" Version="$version" />
    <PackageReference Include="TorchSharp-cpu" Version="$lowest_torchsharp" />
  </ItemGroup>
</Project>
END
export RestoreAdditionalProjectSources="$out/feed${torch_feed:+;$torch_feed}"
dotnet build -c Release -v q --nologo
dotnet bin/Release/net10.0/Consumer.dll
