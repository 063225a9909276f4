using OxyPlot;
using OxyPlot.Axes;
using OxyPlot.Legends;
using OxyPlot.Series;

namespace Charts;

/// <summary>A line of a chart: its name and its points, by ascending x.</summary>
internal sealed record ChartLine(string Name, IReadOnlyList<(double X, double Y)> Points);

/// <summary>A chart of lines over numbers of tokens on a logarithmic axis, or over something else on a linear one, as SVG, that says where its numbers come from.</summary>
internal static class LineChart
{
    private const string Tokens = "tokens";

    private static readonly OxyColor[] Colours =
        [OxyColor.Parse("#0b6e99"), OxyColor.Parse("#c4452d"), OxyColor.Parse("#3b8132"), OxyColor.Parse("#7d4bb0"), OxyColor.Parse("#b07d12"), OxyColor.Parse("#555555"), OxyColor.Parse("#d1589b")];

    /// <param name="title">What is shown, and its unit.</param>
    /// <param name="lines">The lines.</param>
    /// <param name="provenance">Where the numbers come from.</param>
    /// <param name="isLinear">Whether the axis of the numbers is linear; otherwise it is logarithmic too.</param>
    /// <param name="xTitle">What x is, if not numbers of tokens; its axis is then linear and begins at 0.</param>
    public static string Svg(string title, IReadOnlyList<ChartLine> lines, IReadOnlyList<string> provenance, bool isLinear = false, string xTitle = Tokens)
    {
        var model = new PlotModel
        {
            Title = title,
            TitleFontSize = 15,
            TitleHorizontalAlignment = TitleHorizontalAlignment.CenteredWithinView,
            TitlePadding = 14,
            Background = OxyColors.White,
            DefaultFontSize = 12,
            DefaultFont = "Arial",
            Padding = new OxyThickness(24, 30, 24, 16),
        };
        var grid = OxyColor.Parse("#e4e4e4");
        Axis x = xTitle == Tokens ? new LogarithmicAxis { Base = 2, LabelFormatter = TokenLabel } : new LinearAxis { Minimum = 0 };
        (x.Position, x.MajorGridlineStyle, x.MajorGridlineColor) = (AxisPosition.Bottom, LineStyle.Solid, grid);
        (x.Title, x.AxisTitleDistance) = (provenance.Count > 0 ? $"{xTitle}  ({string.Join(", ", provenance.Take(4))})" : xTitle, 10);
        model.Axes.Add(x);
        Axis numbers = isLinear ? new LinearAxis() : new LogarithmicAxis();
        (numbers.Position, numbers.MajorGridlineStyle, numbers.MajorGridlineColor) = (AxisPosition.Left, LineStyle.Solid, grid);
        model.Axes.Add(numbers);
        model.Legends.Add(new Legend
        {
            LegendPlacement = LegendPlacement.Outside,
            LegendPosition = LegendPosition.BottomCenter,
            LegendOrientation = LegendOrientation.Vertical,
            LegendLineSpacing = 5,
            LegendMargin = 12,
        });
        for (var i = 0; i < lines.Count; i++)
        {
            var series = new LineSeries { Title = InLegend(lines[i].Name), Color = Colours[i % Colours.Length], MarkerType = MarkerType.Circle, MarkerSize = 3 };
            series.Points.AddRange(lines[i].Points.Select(point => new DataPoint(point.X, point.Y)));
            model.Series.Add(series);
        }

        return new SvgExporter { Width = 900, Height = 460 + (24 * lines.Count), UseVerticalTextAlignmentWorkaround = true }.ExportToString(model);
    }

    /// <summary>The name with spaces behind it: OxyPlot measures text a quarter too short, and the legend cuts off what it takes to be too long.</summary>
    private static string InLegend(string name) => name.PadRight(name.Length * 2);

    private static string TokenLabel(double count) => count switch
    {
        >= 1 << 20 => $"{count / (1 << 20)}M",
        >= 1 << 10 => $"{count / (1 << 10)}K",
        _ => $"{count}",
    };
}
