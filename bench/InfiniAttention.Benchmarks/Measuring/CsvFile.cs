using System.Globalization;
using CsvHelper;

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

        using var csv = new CsvWriter(text, new CsvHelper.Configuration.CsvConfiguration(CultureInfo.InvariantCulture) { NewLine = "\n" });
        foreach (var row in rows)
        {
            foreach (var value in row)
            {
                csv.WriteField(value is double number ? number.ToString("G6", CultureInfo.InvariantCulture) : Convert.ToString(value, CultureInfo.InvariantCulture));
            }

            csv.NextRecord();
        }
    }

    /// <summary>Makes the folder of a file, before the work whose result the file is to hold.</summary>
    public static void MakeFolder(string path)
    {
        if (Directory.Exists(path))
        {
            throw new ArgumentException($"--output is '{path}', which is a folder: give the name of a file.");
        }

        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }
}
