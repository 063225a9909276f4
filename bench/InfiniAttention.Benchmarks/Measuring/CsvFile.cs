using System.Globalization;

namespace InfiniAttention.Benchmarks;

/// <summary>A comma-separated file headed by lines that say where its numbers come from.</summary>
internal static class CsvFile
{
    public static void Write(string path, IEnumerable<string> provenance, IEnumerable<IReadOnlyList<object?>> rows) =>
        File.WriteAllLines(path, provenance.Select(line => $"# {line}").Concat(rows.Select(row => string.Join(',', row.Select(Field)))));

    /// <summary>Makes the folder of a file, before the work whose result the file is to hold.</summary>
    public static void MakeFolder(string path)
    {
        if (Directory.Exists(path))
        {
            throw new ArgumentException($"--output is '{path}', which is a folder: give the name of a file.");
        }

        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    private static string Field(object? value)
    {
        var text = value is double number ? number.ToString("G6", CultureInfo.InvariantCulture) : Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
        return text.AsSpan().IndexOfAny(",\"\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
