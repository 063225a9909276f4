using System.Globalization;
using CsvHelper;
using CsvHelper.Configuration;

namespace LongContext;

/// <summary>Results as comma-separated text.</summary>
public static class CsvText
{
    /// <summary>A header and a row for each record.</summary>
    public static string Of<T>(IEnumerable<T> records)
    {
        using var text = new StringWriter(CultureInfo.InvariantCulture) { NewLine = "\n" };
        using var csv = new CsvWriter(text, new CsvConfiguration(CultureInfo.InvariantCulture) { NewLine = "\n" });
        csv.WriteRecords(records);
        csv.Flush();
        return text.ToString();
    }
}
