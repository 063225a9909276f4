using System.Reflection;
using System.Text.RegularExpressions;

namespace InfiniAttention.Tests.Documentation;

/// <summary>Files, headings and members that the documentation refers to exist.</summary>
public partial class ReferenceTests
{
    private const BindingFlags Everything =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly Type[] Types = typeof(InfiniAttentionModule).Assembly.GetTypes();

    public static TheoryData<string> Pages { get; } = new(Repository.Pages);

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_relative_link_leads_to_a_file_and_a_heading(string page)
    {
        var folder = Path.GetDirectoryName(Path.Combine(Repository.Root, page))!;
        var broken = Link().Matches(Repository.Prose(page))
            .Select(match => match.Groups["target"].Value)
            .Where(target => !target.Contains("://", StringComparison.Ordinal) && !Exists(folder, page, target));
        Assert.Empty(broken);
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_member_named_beside_its_file_is_in_it(string page)
    {
        var folder = Path.GetDirectoryName(Path.Combine(Repository.Root, page))!;
        foreach (Match match in MemberInFile().Matches(Repository.Prose(page)))
        {
            var (type, member) = (match.Groups["type"].Value, match.Groups["member"].Value);
            var file = Path.Combine(folder, match.Groups["file"].Value);
            Assert.True(Types.Any(found => found.Name == type && found.GetMember(member, Everything).Length > 0), $"{page} names {type}.{member}, which does not exist.");
            Assert.Matches($@"(class|record|struct|enum) {type}\b[\s\S]*\b{member}\b", File.ReadAllText(file));
        }
    }

    [Fact]
    public void Every_equation_of_the_paper_is_traced_to_a_member_and_a_file()
    {
        var rows = Repository.Prose("docs/equations.md").Split('\n').Where(line => line.StartsWith('|')).ToArray();
        foreach (var equation in new[] { "6", "7", "8", "9", "10" })
        {
            var row = Assert.Single(rows, line => line.Split('|')[1].Trim() == equation);
            Assert.Matches(MemberInFile(), row);
        }
    }

    private static bool Exists(string folder, string page, string target)
    {
        var (path, heading) = target.Split('#') is [var first, var second] ? (first, second) : (target, null);
        var file = path.Length == 0 ? Path.Combine(Repository.Root, page) : Path.GetFullPath(Path.Combine(folder, path));
        return (File.Exists(file) || Directory.Exists(file))
            && (heading is null || Headings(File.ReadAllText(file)).Contains(heading));
    }

    /// <summary>The anchors that GitHub generates from a page's headings.</summary>
    private static IEnumerable<string> Headings(string text) => Heading().Matches(text)
        .Select(match => NotInAnchor().Replace(match.Groups["text"].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'));

    [GeneratedRegex(@"\]\((?<target>[^)\s]+)\)")]
    private static partial Regex Link();

    /// <summary><c>`Type.Member` in [File.cs](path/File.cs)</c></summary>
    [GeneratedRegex(@"`(?<type>\w+)\.(?<member>\w+)` in \[[^\]]*\]\((?<file>[^)]+\.cs)\)")]
    private static partial Regex MemberInFile();

    [GeneratedRegex(@"^#+ (?<text>.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchor();
}
