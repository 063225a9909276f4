using System.Text.RegularExpressions;
using InfiniAttention.Tests.Documentation;
using Xunit.Abstractions;

namespace InfiniAttention.Tests;

/// <summary>
/// Folders of the library use each other in one direction: those of docs/contributing.md. Namespaces do not show it, since there is one,
/// and a partial class may stand in two folders; so files are read, and the types that each names.
/// </summary>
public partial class FolderTests(ITestOutputHelper output)
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Tensors"] = [],
        ["Files"] = ["Tensors"],
        ["State"] = ["Files", "Tensors"],
        ["Memory"] = ["State", "Tensors"],
        ["Layer"] = ["Memory", "State", "Tensors"],
        ["Streaming"] = ["Layer", "Memory", "State", "Files", "Tensors"],
        ["Conversion"] = ["Layer", "Memory", "State", "Tensors"],
    };

    [Fact]
    public void No_folder_uses_one_that_comes_after_it()
    {
        var files = Files();
        Assert.Equal(Allowed.Keys.Order(), files.Select(file => file.Folder).Distinct().Order());
        var faults = new List<string>();
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
                        faults.Add($"{file.Path} names {name} of {home}");
                    }
                }
            }
        }

        output.WriteLine(string.Join("\n", used));
        Assert.True(faults.Count == 0, string.Join("\n", faults));
    }

    [Fact]
    public void The_page_draws_the_same_graph()
    {
        string page = Repository.Read("docs/contributing.md");
        Assert.All(Allowed, folder => Assert.Contains($"| `{folder.Key}/` | {(folder.Value.Length == 0 ? "nothing" : string.Join(", ", folder.Value))} |", page, StringComparison.Ordinal));
    }

    [Fact]
    public void No_line_is_longer_than_a_screen()
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
    public void No_file_is_longer_than_a_reader_likes()
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
