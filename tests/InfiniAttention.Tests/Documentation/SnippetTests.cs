using System.Text.RegularExpressions;

namespace InfiniAttention.Tests.Documentation;

/// <summary>
/// Every C# block of the documentation is a <c>#region</c> of a file in Snippets/, which is compiled and whose tests run, or a whole program
/// that a test there runs: the pages show only code that works.
/// </summary>
public partial class SnippetTests
{
    private static readonly string Folder = Path.Combine(Repository.Root, "tests", "InfiniAttention.Tests", "Snippets");

    /// <summary>Programs of which each is one file that a page shows whole.</summary>
    private static readonly string[] Programs = ["samples/QuickStart/Program.cs"];

    private static readonly Lazy<IReadOnlyDictionary<string, string>> Regions = new(() => Directory.GetFiles(Folder, "*.cs")
        .SelectMany(file => Region().Matches(File.ReadAllText(file).ReplaceLineEndings("\n"))
            .Select(match => ($"{Path.GetFileName(file)}, {match.Groups["name"].Value.Trim()}", Normalized(match.Groups["text"].Value))))
        .Concat(Programs.Select(program => (program, Normalized(Repository.Read(program)))))
        .ToDictionary(region => region.Item1, region => region.Item2));

    public static IEnumerable<object[]> Blocks { get; } =
    [
        .. from page in Repository.Pages
           from block in Repository.Blocks(page, "csharp")
           select new object[] { page, block.Line, block.Text },
    ];

    [Theory]
    [MemberData(nameof(Blocks))]
    public void A_block_of_code_is_a_region_of_the_snippets(string page, int line, string text)
    {
        var code = Normalized(text);
        Assert.True(
            Regions.Value.Values.Contains(code),
            $"""
            The C# block at line {line} of {page} is in no #region of a file in {Path.GetRelativePath(Repository.Root, Folder)}, so nothing compiles it.
            {Nearest(code)}
            Make the two the same, or write a region with this code inside a test.
            """);
    }

    [Fact]
    public void Every_region_is_shown_on_a_page()
    {
        var shown = Blocks.Select(row => Normalized((string)row[2])).ToHashSet();
        Assert.Empty(Regions.Value.Where(region => !shown.Contains(region.Value)).Select(region => region.Key));
    }

    [Fact]
    public void Every_block_of_C_sharp_is_marked_csharp()
    {
        var others = from page in Repository.Pages
                     from language in new[] { "cs", "c#", "C#", "CSharp", "" }
                     from block in Repository.Blocks(page, language)
                     where language.Length > 0 || block.Text.Contains("using var ", StringComparison.Ordinal)
                     select $"{page}, line {block.Line}";
        Assert.Empty(others);
    }

    /// <summary>Says where a block and the most similar region start to differ.</summary>
    private static string Nearest(string code)
    {
        var lines = code.Split('\n');
        var (name, same) = Regions.Value
            .Select(region => (region.Key, Same: region.Value.Split('\n').Zip(lines).TakeWhile(pair => pair.First == pair.Second).Count()))
            .OrderByDescending(region => region.Same).FirstOrDefault();
        return name is null ? "There are no regions." : $"The most similar is {name}: equal up to line {same} of the block ({lines.ElementAtOrDefault(same)}).";
    }

    /// <summary>Removes the common indentation, trailing spaces, and empty lines at both ends.</summary>
    private static string Normalized(string code)
    {
        var lines = code.Split('\n').Select(line => line.TrimEnd()).ToArray();
        var indentation = lines.Where(line => line.Length > 0).Select(line => line.Length - line.TrimStart().Length).DefaultIfEmpty(0).Min();
        return string.Join('\n', lines.Select(line => line.Length == 0 ? line : line[indentation..])).Trim('\n');
    }

    [GeneratedRegex(@"^[ ]*#region (?<name>[^\n]*)\n(?<text>.*?)^[ ]*#endregion", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Region();
}
