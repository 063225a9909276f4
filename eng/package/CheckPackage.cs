// Lists a package from eng/pack.sh and checks its contents: dotnet run eng/package/CheckPackage.cs -- FILE.nupkg
#:property PublishAot=false
using System.IO.Compression;
using System.Reflection.Metadata;
using System.Text.RegularExpressions;
using System.Xml.Linq;

var package = args[0];
var symbols = Path.ChangeExtension(package, ".snupkg");
var problems = new List<string>();
void Expect(bool condition, string problem)
{
    if (!condition)
        problems.Add(problem);
}

static string[] Files(ZipArchive archive) =>
    [.. archive.Entries.Select(entry => entry.FullName)
        .Where(name => !name.StartsWith("_rels/") && !name.StartsWith("package/") && name != "[Content_Types].xml")
        .Order(StringComparer.Ordinal)];

void List(string file, ZipArchive archive, string[] wanted)
{
    Console.WriteLine(Path.GetFileName(file));
    foreach (var name in Files(archive))
        Console.WriteLine($"  {archive.GetEntry(name)!.Length,9} {name}");
    Expect(Files(archive).SequenceEqual(wanted), $"{Path.GetFileName(file)} should hold exactly {string.Join(", ", wanted)}");
}

var isMpi = Path.GetFileName(package).StartsWith("InfiniAttention.Mpi.", StringComparison.Ordinal);
var id = isMpi ? "InfiniAttention.Mpi" : "InfiniAttention";
string[] dependencies = isMpi ? ["InfiniAttention", "MPI.NET", "TorchSharp"] : ["TorchSharp"];
string[] frameworks = ["net10.0", "net8.0"];
string[] buildFiles = isMpi ? [] : ["InfiniAttention.targets", "TorchSharpOnOlderLinux.targets", "WeakenGlibcxxRequirement.cs"];
string[] required = ["icon", "projectUrl", "releaseNotes"];
using var main = ZipFile.OpenRead(package);
List(package, main, [$"{id}.nuspec", "README.md",
    .. buildFiles.Select(file => $"buildTransitive/{file}"), "icon.png",
    .. frameworks.SelectMany(framework => new[] { $"lib/{framework}/{id}.dll", $"lib/{framework}/{id}.xml" })]);
using var debug = ZipFile.OpenRead(symbols);
List(symbols, debug, [$"{id}.nuspec", .. frameworks.Select(framework => $"lib/{framework}/{id}.pdb")]);

using var readme = new StreamReader(main.GetEntry("README.md")!.Open());
foreach (Match link in Regex.Matches(readme.ReadToEnd(), @"\]\((?!https?://|#)[^)]*\)"))
    Expect(false, $"the readme's link {link.Value} is broken outside the repository");

using var nuspec = main.GetEntry($"{id}.nuspec")!.Open();
var metadata = XDocument.Load(nuspec).Root!.Elements().Single();
XElement? Element(string name) => metadata.Elements().SingleOrDefault(element => element.Name.LocalName == name);
Console.WriteLine(metadata);
Expect(Element("license") is { Value: "MIT" } license && (string?)license.Attribute("type") == "expression", "the license is not the expression MIT");
Expect(Element("readme")?.Value == "README.md", "the readme is not README.md");
foreach (var name in required)
    Expect(!string.IsNullOrWhiteSpace(Element(name)?.Value), $"there is no {name}");
Expect((string?)Element("repository")?.Attribute("type") == "git", "there is no git repository in the metadata");
Expect(((string?)Element("repository")?.Attribute("commit"))?.Length == 40, "the repository has no commit");
var groups = Element("dependencies")?.Elements().ToArray() ?? [];
Expect(groups.Length == frameworks.Length, $"there are {groups.Length} dependency groups for {frameworks.Length} frameworks");
foreach (var group in groups)
    Expect(group.Elements().Select(dependency => (string?)dependency.Attribute("id")).Order(StringComparer.Ordinal).SequenceEqual(dependencies),
        $"the dependencies of {(string?)group.Attribute("targetFramework")} are not {string.Join(", ", dependencies)}");

// Source Link needs the repository's URL, which a clone without a remote does not have.
if (Element("repository")?.Attribute("url") is null)
    Console.WriteLine("No remote is configured: the package has no repository URL and no Source Link.");
else
    foreach (var framework in frameworks)
        Expect(SourceLink($"lib/{framework}/InfiniAttention.pdb") is not null, $"the symbols of {framework} have no Source Link");

foreach (var problem in problems)
    Console.Error.WriteLine($"PROBLEM: {problem}");
return problems.Count == 0 ? 0 : 1;

string? SourceLink(string entry)
{
    var sourceLink = new Guid("CC110556-A091-4D38-9FEC-25AB9A351A6A");
    using var pdb = new MemoryStream();
    using (var stream = debug.GetEntry(entry)!.Open())
        stream.CopyTo(pdb);
    pdb.Position = 0;
    using var provider = MetadataReaderProvider.FromPortablePdbStream(pdb);
    var reader = provider.GetMetadataReader();
    var found = reader.CustomDebugInformation.Select(reader.GetCustomDebugInformation)
        .Where(information => reader.GetGuid(information.Kind) == sourceLink)
        .Select(information => System.Text.Encoding.UTF8.GetString(reader.GetBlobBytes(information.Value)))
        .FirstOrDefault();
    Console.WriteLine($"Source Link in {entry}: {found ?? "none"}");
    return found;
}
