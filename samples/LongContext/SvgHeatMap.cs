using System.Globalization;
using System.Net;
using System.Text;

namespace LongContext;

/// <summary>A table of numbers as a picture: a coloured cell for each, its value written inside.</summary>
public sealed record SvgHeatMap
{
    private const int CellWidth = 84, CellHeight = 34, Left = 190, Top = 78, Margin = 24;
    private static readonly (int R, int G, int B) Low = (214, 96, 77), Middle = (247, 240, 220), High = (52, 138, 110);

    public required string Title { get; init; }

    public string Subtitle { get; init; } = "";

    public required IReadOnlyList<string> Columns { get; init; }

    public required IReadOnlyList<string> Rows { get; init; }

    /// <summary>The value of (row, column), or null where there is none.</summary>
    public required Func<int, int, double?> Value { get; init; }

    /// <summary>The values that get the first and the last colour.</summary>
    public (double Low, double High) Range { get; init; } = (0, 1);

    public string Format { get; init; } = "0.##";

    public string ToSvg()
    {
        var width = Left + Columns.Count * CellWidth + Margin;
        var height = Top + Rows.Count * CellHeight + Margin;
        var svg = new StringBuilder();
        Line(svg, $"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13" fill="#222">""");
        Line(svg, $"""<rect width="{width}" height="{height}" fill="#fff"/>""");
        Line(svg, $"""<text x="{Margin}" y="28" font-size="16" font-weight="600">{Escape(Title)}</text>""");
        Line(svg, $"""<text x="{Margin}" y="47" fill="#666">{Escape(Subtitle)}</text>""");
        for (var column = 0; column < Columns.Count; column++)
            Line(svg, $"""<text x="{Left + column * CellWidth + CellWidth / 2}" y="{Top - 9}" text-anchor="middle">{Escape(Columns[column])}</text>""");
        for (var row = 0; row < Rows.Count; row++)
        {
            var y = Top + row * CellHeight;
            Line(svg, $"""<text x="{Left - 12}" y="{y + 22}" text-anchor="end">{Escape(Rows[row])}</text>""");
            for (var column = 0; column < Columns.Count; column++)
                Cell(svg, Left + column * CellWidth, y, Value(row, column));
        }
        Line(svg, $"</svg>");
        return svg.ToString();
    }

    private void Cell(StringBuilder svg, int x, int y, double? value)
    {
        var fill = value is { } known ? Colour((known - Range.Low) / (Range.High - Range.Low)) : "#eee";
        var text = value?.ToString(Format, CultureInfo.InvariantCulture) ?? "–";
        Line(svg, $"""<rect x="{x + 1}" y="{y + 1}" width="{CellWidth - 2}" height="{CellHeight - 2}" rx="4" fill="{fill}"/>""");
        Line(svg, $"""<text x="{x + CellWidth / 2}" y="{y + 22}" text-anchor="middle">{text}</text>""");
    }

    private static string Colour(double share)
    {
        share = double.Clamp(share, 0, 1);
        var (from, to, t) = share < 0.5 ? (Low, Middle, share * 2) : (Middle, High, share * 2 - 1);
        int Mix(int a, int b) => (int)Math.Round(a + (b - a) * t);
        return $"#{Mix(from.R, to.R):x2}{Mix(from.G, to.G):x2}{Mix(from.B, to.B):x2}";
    }

    private static string Escape(string text) => WebUtility.HtmlEncode(text);

    private static void Line(StringBuilder svg, FormattableString text) => svg.Append(FormattableString.Invariant(text)).Append('\n');
}
