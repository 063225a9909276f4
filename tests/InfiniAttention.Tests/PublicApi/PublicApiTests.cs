using InfiniAttention.Tests.Documentation;
using PublicApiGenerator;

namespace InfiniAttention.Tests.PublicApi;

/// <summary>The public API of each package equals its approved one, which must be changed together with it.</summary>
public class PublicApiTests
{
    private const string Folder = "tests/InfiniAttention.Tests/PublicApi";
    private const string Accept = "ACCEPT_PUBLIC_API";

    [Theory]
    [InlineData(typeof(InfiniAttentionModule), "PublicApi.approved.txt")]
    [InlineData(typeof(MpiSequenceGroup), "PublicApi.Mpi.approved.txt")]
    public void The_public_API_is_the_approved_one(Type type, string name)
    {
        var approvedFile = $"{Folder}/{name}";
        var actual = type.Assembly.GeneratePublicApi(new() { IncludeAssemblyAttributes = false }).ReplaceLineEndings("\n");
        var file = Path.Combine(Repository.Root, approvedFile);
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            File.WriteAllText(file, actual);
        }

        var approved = File.Exists(file) ? Repository.Read(approvedFile) : "";
        Assert.True(
            actual == approved,
            $"""
            The public API differs from the approved one (- approved, + now):

            {string.Join('\n', Difference(approved.Split('\n'), actual.Split('\n')))}

            If the change is intended, run the test once with {Accept}=1, as in
                {Accept}=1 ./test.sh --filter {nameof(PublicApiTests)}
            then commit {approvedFile} with the change, and say in CHANGELOG.md what users must do.
            """);
    }

    /// <summary>Lines that only one side has, grouped by type.</summary>
    private static IEnumerable<string> Difference(string[] approved, string[] actual)
    {
        var before = Members(approved);
        var after = Members(actual);
        foreach (var type in before.Select(member => member.Type).Union(after.Select(member => member.Type)))
        {
            var removed = before.Except(after).Where(member => member.Type == type).Select(member => "- " + member.Line);
            var added = after.Except(before).Where(member => member.Type == type).Select(member => "+ " + member.Line);
            var lines = removed.Concat(added).ToArray();
            if (lines.Length > 0)
            {
                yield return "  " + type;
            }

            foreach (var line in lines)
            {
                yield return line;
            }
        }
    }

    private static (string Type, string Line)[] Members(string[] lines)
    {
        var type = "";
        return [.. lines.Where(line => line.Length > 0).Select(line => (line.StartsWith("        ", StringComparison.Ordinal) ? type : type = line, line))];
    }
}
