using System.Globalization;
using CsvHelper;
using CsvHelper.Configuration;

namespace InfiniAttention.Benchmarks;

/// <summary>A comma-separated file headed by lines that say where its numbers come from.</summary>
internal static class CsvFile
{
    public static void Write(string path, IEnumerable<string> provenance, IEnumerable<IReadOnlyList<object?>> rows)
    {
        using var text = new StreamWriter(path) { NewLine = "\n" };
        foreach (var line in provenance)
        {
            text.WriteLine($"# {line}");
        }

        using var csv = new CsvWriter(text, new CsvConfiguration(CultureInfo.InvariantCulture) { NewLine = "\n" });
        foreach (var row in rows)
        {
            foreach (var value in row)
            {
                csv.WriteField(value is double number ? number.ToString("G6", CultureInfo.InvariantCulture) : Convert.ToString(value, CultureInfo.InvariantCulture));
            }

            csv.NextRecord();
        }
    }

    /// <summary>Reads a file that <see cref="Write"/> wrote: its lines of provenance, and each row as <paramref name="read"/> converts it.</summary>
    public static (string[] Provenance, List<T> Rows) Read<T>(string path, Func<CsvReader, T> read)
    {
        var lines = File.ReadAllLines(path);
        using var csv = new CsvReader(new StringReader(string.Join('\n', lines)), new CsvConfiguration(CultureInfo.InvariantCulture) { AllowComments = true });
        csv.Read();
        csv.ReadHeader();
        var rows = new List<T>();
        while (csv.Read())
        {
            rows.Add(read(csv));
        }

        return ([.. lines.TakeWhile(line => line.StartsWith('#')).Select(line => line[2..])], rows);
    }

    /// <summary>Creates the folder of a file. Called before the work, so that a path that cannot be used is refused early.</summary>
    public static void MakeFolder(string path)
    {
        if (Directory.Exists(path))
        {
            throw new ArgumentException($"--output is '{path}', which is a folder: give the name of a file.");
        }

        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }
}
