using System.Text.RegularExpressions;
using InfiniAttention.Tests.Documentation;
using Xunit.Abstractions;

namespace InfiniAttention.Tests;

/// <summary>
/// Folders of the library depend on each other in one direction, as docs/contributing.md shows. There is only one namespace,
/// and a partial class may span two folders, so the tests read the source files and the type names in them.
/// </summary>
public partial class FolderTests(ITestOutputHelper output)
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Tensors"] = [],
        ["Files"] = ["Tensors"],
        ["State"] = ["Files", "Tensors"],
        ["Groups"] = ["Tensors"],
        ["Memory"] = ["State", "Groups", "Tensors"],
        ["Layer"] = ["Memory", "State", "Groups", "Tensors"],
        ["Streaming"] = ["Layer", "Memory", "State", "Groups", "Files", "Tensors"],
        ["Conversion"] = ["Layer", "Memory", "State", "Tensors"],
    };

    [Fact]
    public void Folders_use_only_the_folders_they_may()
    {
        var files = Files();
        Assert.Equal(Allowed.Keys.Order(), files.Select(file => file.Folder).Distinct().Order());
        var violations = new List<string>();
        var used = new SortedSet<string>();
        var folders = files.SelectMany(file => file.Declares.Select(type => (type, file.Folder))).GroupBy(pair => pair.type)
            .ToDictionary(group => group.Key, group => group.Select(pair => pair.Folder).ToHashSet());
        foreach (var file in files)
        {
            foreach (string name in file.Names.Where(name => folders.TryGetValue(name, out var homes) && !homes.Contains(file.Folder)))
            {
                foreach (string home in folders[name].Take(1))
                {
                    used.Add($"{file.Folder} -> {home}");
                    if (!folders[name].Any(folder => Allowed[file.Folder].Contains(folder)))
                    {
                        violations.Add($"{file.Path} uses {name} of {home}");
                    }
                }
            }
        }

        output.WriteLine(string.Join("\n", used));
        Assert.True(violations.Count == 0, string.Join("\n", violations));
    }

    [Fact]
    public void The_page_lists_the_same_dependencies()
    {
        string page = Repository.Read("docs/contributing.md");
        Assert.All(Allowed, folder => Assert.Contains($"| `{folder.Key}/` | {(folder.Value.Length == 0 ? "nothing" : string.Join(", ", folder.Value))} |", page, StringComparison.Ordinal));
    }

    [Fact]
    public void No_line_is_longer_than_200_characters()
    {
        const int Longest = 200;
        var lines = new[] { "src", "tests", "bench", "samples", "eng" }
            .SelectMany(folder => Directory.GetFiles(Path.Combine(Repository.Root, folder), "*.cs", SearchOption.AllDirectories))
            .Where(file => !file.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal))
            .SelectMany(file => File.ReadLines(file).Select((line, i) => (Place: $"{Path.GetRelativePath(Repository.Root, file)}:{i + 1}", line.Length)))
            .Where(line => line.Length > Longest);
        Assert.Empty(lines);
    }

    [Fact]
    public void No_source_file_is_longer_than_320_lines()
    {
        var lines = Files().Select(file => (file.Path, Count: File.ReadLines(Path.Combine(Repository.Root, file.Path)).Count())).Where(file => file.Count > 320);
        Assert.Empty(lines);
    }

    private static List<(string Path, string Folder, HashSet<string> Declares, HashSet<string> Names)> Files()
    {
        const string Source = "src/InfiniAttention/";
        return
        [
            .. Directory.GetFiles(Path.Combine(Repository.Root, Source), "*.cs", SearchOption.AllDirectories)
                .Select(file => Path.GetRelativePath(Repository.Root, file).Replace('\\', '/'))
                .Select(path =>
                {
                    string code = Comment().Replace(Repository.Read(path), "");
                    return (path, path[Source.Length..].Split('/')[0],
                        Declaration().Matches(code).Select(match => match.Groups["name"].Value).ToHashSet(),
                        Word().Matches(code).Select(match => match.Value).ToHashSet());
                }),
        ];
    }

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();

    [GeneratedRegex(@"^(?:public |internal |private |sealed |static |abstract |readonly |partial )*(?:class|record struct|record|struct|enum|interface|delegate \w+) (?<name>\w+)",
        RegexOptions.Multiline)]
    private static partial Regex Declaration();

    [GeneratedRegex(@"(?<![.\w""])[A-Z]\w+")]
    private static partial Regex Word();
}
