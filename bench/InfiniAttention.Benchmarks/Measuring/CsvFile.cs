using System.Globalization;

namespace InfiniAttention.Benchmarks;

/// <summary>A comma-separated file headed by lines that say where its numbers come from.</summary>
internal static class CsvFile
{
    public static void Write(string path, IEnumerable<string> provenance, IEnumerable<IReadOnlyList<object?>> rows) =>
        File.WriteAllLines(path, provenance.Select(line => $"# {line}").Concat(rows.Select(row => string.Join(',', row.Select(Field)))));

    private static string Field(object? value)
    {
        var text = value is double number ? number.ToString("G6", CultureInfo.InvariantCulture) : Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
        return text.AsSpan().IndexOfAny(",\"\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
