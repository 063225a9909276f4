using System.Text.RegularExpressions;

namespace InfiniAttention.Tests.Documentation;

/// <summary>The files that the documentation's tests read.</summary>
internal static partial class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>README.md, CHANGELOG.md, SECURITY.md, and the pages of these folders, by their path from the root.</summary>
    public static IReadOnlyList<string> Pages { get; } =
    [
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        .. new[] { "bench", "docs", "eng", "samples", "tests" }
            .SelectMany(folder => Directory.GetFiles(Path.Combine(Root, folder), "*.md", SearchOption.AllDirectories))
            .Select(page => Path.GetRelativePath(Root, page).Replace('\\', '/')).Order(StringComparer.Ordinal),
    ];

    public static string Read(string path) => File.ReadAllText(Path.Combine(Root, path)).ReplaceLineEndings("\n");

    /// <summary>The fenced blocks of a language on a page, each with its first line number.</summary>
    public static IEnumerable<(int Line, string Text)> Blocks(string page, string language)
    {
        var text = Read(page);
        return Fence().Matches(text)
            .Where(match => match.Groups["language"].Value == language)
            .Select(match => (text[..match.Index].Count(c => c == '\n') + 1, match.Groups["text"].Value));
    }

    /// <summary>A page without its fenced blocks.</summary>
    public static string Prose(string page) => Fence().Replace(Read(page), "");

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "InfiniAttention.sln")))
        {
            folder = folder.Parent ?? throw new InvalidOperationException($"{AppContext.BaseDirectory} is not inside a clone of the repository.");
        }

        return folder.FullName;
    }

    [GeneratedRegex(@"^```(?<language>\S*)[^\n]*\n(?<text>.*?)^```[ ]*$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence();
}
