using System.Globalization;
using System.Text.RegularExpressions;

namespace InfiniAttention.Tests.Documentation;

/// <summary>
/// Each table of measured numbers on a page equals a committed results file. A comment on the page names the file and the columns:
/// <c>&lt;!-- table of bench/results/FILE.csv: column, column --&gt;</c>, followed by the table; <c>; rows name, name</c> after
/// the columns selects the rows with these names in the first column.
/// </summary>
public partial class MeasuredTableTests
{
    private const string Accept = "ACCEPT_MEASURED_TABLES";

    [Fact]
    public void The_README_shows_only_what_was_measured() => Check("README.md");

    [Fact]
    public void The_pages_show_only_what_was_measured() => Assert.All(Repository.Pages.Except(["README.md"]), Check);

    [Fact]
    public void There_are_tables_to_check() => Assert.True(Repository.Pages.Sum(page => Mark().Count(Repository.Read(page))) >= 2, "the marks of the tables are gone");

    private static void Check(string page)
    {
        var actual = Repository.Read(page);
        var expected = Mark().Replace(actual, mark => mark.Groups["mark"].Value + "\n" + Table(mark.Groups["file"].Value, mark.Groups["columns"].Value, mark.Groups["rows"]));
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            File.WriteAllText(Path.Combine(Repository.Root, page), expected);
            actual = Repository.Read(page);
        }

        Assert.True(
            actual == expected,
            $"""
            The tables of {page} differ from the results files. They should read:

            {string.Join('\n', Mark().Matches(expected).Select(mark => mark.Value))}
            Run the test once with {Accept}=1 to update the page.
            """);
    }

    private static string Table(string file, string columns, Group names)
    {
        var rows = Repository.Read(file).Split('\n').Where(line => line.Length > 0 && line[0] != '#').Select(Fields).ToArray();
        var shown = columns.Split(',').Select(column => Array.IndexOf(rows[0], column.Trim()) is var at and >= 0
            ? at
            : throw new InvalidOperationException($"{file} has no column {column.Trim()}; it has {string.Join(", ", rows[0])}.")).ToArray();
        var chosen = names.Success
            ? names.Value.Split(',').Select(name => rows.Single(row => row[0] == name.Trim()))
            : rows.Skip(1);
        return string.Concat(new[] { rows[0], [.. rows[0].Select(_ => "---")] }.Concat(chosen)
            .Select(row => Line(shown.Select(column => Text(row[column])))));
    }

    private static string Line(IEnumerable<string> cells) => $"| {string.Join(" | ", cells)} |\n";

    /// <summary>Rounds fractions to three digits and leaves everything else unchanged.</summary>
    private static string Text(string field) =>
        field.Contains('.', StringComparison.Ordinal) && double.TryParse(field, NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
            ? number.ToString(Math.Abs(number) < 1000 ? "G3" : "F0", CultureInfo.InvariantCulture)
            : field;

    /// <summary>The fields of a comma-separated line; a field with commas is quoted.</summary>
    private static string[] Fields(string line) =>
        [.. Field().Matches(line).Select(match => match.Groups["quoted"] is { Success: true } quoted ? quoted.Value.Replace("\"\"", "\"", StringComparison.Ordinal) : match.Groups["plain"].Value)];

    [GeneratedRegex(@"(?<mark><!-- table of (?<file>\S+\.csv): (?<columns>[^\n;]+?)(; rows (?<rows>[^\n]+?))? -->)\n(?:\|[^\n]*\n)*")]
    private static partial Regex Mark();

    [GeneratedRegex("(?<=^|,)(?:\"(?<quoted>(?:[^\"]|\"\")*)\"|(?<plain>[^,]*))(?=,|$)")]
    private static partial Regex Field();
}
