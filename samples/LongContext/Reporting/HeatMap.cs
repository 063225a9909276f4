using System.Globalization;
using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace LongContext;

/// <summary>A table of numbers as a picture: coloured cells with their values, and a colour scale.</summary>
public sealed record HeatMap
{
    private const double LeastCellWidth = 84, CellHeight = 34, LeastLeft = 190, LetterWidth = 8, Top = 28, Right = 90, Bottom = 12, Heading = 70;

    public required string Title { get; init; }

    public string Subtitle { get; init; } = "";

    public required IReadOnlyList<string> Columns { get; init; }

    public required IReadOnlyList<string> Rows { get; init; }

    /// <summary>The value of (row, column), or null if there is none.</summary>
    public required Func<int, int, double?> Value { get; init; }

    /// <summary>The values that get the first and the last colour.</summary>
    public (double Low, double High) Range { get; init; } = (0, 1);

    /// <summary>Whether a large value is good (true), bad (false) or neither (null); it decides the colours.</summary>
    public bool? IsLargeGood { get; init; }

    public string Format { get; init; } = "0.##";

    public string ToSvg()
    {
        var left = Math.Max(LeastLeft, 20 + (LetterWidth * Rows.Max(row => row.Length)));
        var cellWidth = Math.Max(LeastCellWidth, 10 + (LetterWidth * Columns.Max(column => column.Length)));
        var model = new PlotModel
        {
            Title = Title,
            TitleFontSize = 16,
            TitleHorizontalAlignment = TitleHorizontalAlignment.CenteredWithinView,
            TitlePadding = 8,
            Subtitle = Subtitle,
            SubtitleFontSize = 12,
            Background = OxyColors.White,
            PlotAreaBorderThickness = new(0),
            DefaultFontSize = 13,
        };
        model.Axes.Add(Labels(AxisPosition.Top, Columns));
        model.Axes.Add(Labels(AxisPosition.Left, [.. Rows.Reverse()]));
        model.Axes.Add(new LinearColorAxis { Position = AxisPosition.Right, Minimum = Range.Low, Maximum = Range.High, Palette = Palette(), InvalidNumberColor = OxyColors.WhiteSmoke });
        var cells = new double[Columns.Count, Rows.Count];
        for (var row = 0; row < Rows.Count; row++)
        {
            for (var column = 0; column < Columns.Count; column++)
            {
                var (value, y) = (Value(row, column), Rows.Count - 1 - row);
                cells[column, y] = value ?? double.NaN;
                model.Annotations.Add(new TextAnnotation
                {
                    Text = value?.ToString(Format, CultureInfo.InvariantCulture) ?? "–",
                    TextPosition = new(column, y),
                    TextHorizontalAlignment = HorizontalAlignment.Center,
                    TextVerticalAlignment = VerticalAlignment.Middle,
                    StrokeThickness = 0,
                    FontSize = 13,
                });
            }
        }

        model.Series.Add(new HeatMapSeries
        {
            X0 = 0,
            X1 = Columns.Count - 1,
            Y0 = 0,
            Y1 = Rows.Count - 1,
            Data = cells,
            Interpolate = false,
            RenderMethod = HeatMapRenderMethod.Rectangles,
        });
        model.PlotMargins = new(left, Top, Right, Bottom);
        model.Padding = new(0, 18, 0, 0);
        return new SvgExporter { Width = Math.Max(440, left + (Columns.Count * cellWidth) + Right), Height = Heading + Top + (Rows.Count * CellHeight) + Bottom }.ExportToString(model);
    }

    /// <summary>From red over white to green if one end is good; otherwise from white to blue.</summary>
    private OxyPalette Palette()
    {
        OxyColor bad = OxyColor.FromRgb(214, 110, 92), middle = OxyColor.FromRgb(247, 240, 220), good = OxyColor.FromRgb(90, 166, 136);
        return IsLargeGood switch
        {
            true => OxyPalette.Interpolate(100, bad, middle, good),
            false => OxyPalette.Interpolate(100, good, middle, bad),
            _ => OxyPalette.Interpolate(100, OxyColors.White, OxyColor.FromRgb(110, 160, 205)),
        };
    }

    private static CategoryAxis Labels(AxisPosition position, IReadOnlyList<string> labels)
    {
        var axis = new CategoryAxis { Position = position, TickStyle = TickStyle.None, AxislineThickness = 0, GapWidth = 0 };
        axis.Labels.AddRange(labels);
        return axis;
    }
}
