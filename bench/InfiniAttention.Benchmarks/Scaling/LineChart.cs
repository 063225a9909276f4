using System.Globalization;
using System.Security;
using System.Text;

namespace InfiniAttention.Benchmarks;

/// <summary>A line of a chart: its name and its points, by ascending x.</summary>
internal sealed record ChartLine(string Name, IReadOnlyList<(double X, double Y)> Points);

/// <summary>A chart of lines as SVG, x in powers of 2 and y in powers of 10, that says where its numbers come from.</summary>
internal static class LineChart
{
    private const double Width = 760;
    private const double Height = 460;
    private const double Left = 80;
    private const double Right = 30;
    private const double Top = 60;
    private const double Bottom = 110;

    private static readonly string[] Colours = ["#0b6e99", "#c4452d", "#3b8132", "#7d4bb0"];

    public static string Svg(string title, string xName, string yName, IReadOnlyList<ChartLine> lines, IReadOnlyList<string> provenance)
    {
        var points = lines.SelectMany(line => line.Points).ToArray();
        var x = new Axis(Math.Log2, points.Select(point => point.X), Left, Width - Right);
        var y = new Axis(Math.Log10, points.Select(point => point.Y), Height - Bottom, Top);
        var svg = new StringBuilder();
        Line($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"12\">");
        Line($"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        Text(Left, 24, title, "font-size=\"15\" font-weight=\"bold\"");
        for (var power = x.First; power <= x.Last; power++)
        {
            var at = x.Place(Math.Pow(2, power));
            Line($"<line x1=\"{at:F1}\" y1=\"{Top}\" x2=\"{at:F1}\" y2=\"{Height - Bottom}\" stroke=\"#e4e4e4\"/>");
            Text(at, Height - Bottom + 18, Tokens(Math.Pow(2, power)), "text-anchor=\"middle\"");
        }

        for (var power = y.First; power <= y.Last; power++)
        {
            var at = y.Place(Math.Pow(10, power));
            Line($"<line x1=\"{Left}\" y1=\"{at:F1}\" x2=\"{Width - Right}\" y2=\"{at:F1}\" stroke=\"#e4e4e4\"/>");
            Text(Left - 8, at + 4, Math.Pow(10, power).ToString("G4", CultureInfo.InvariantCulture), "text-anchor=\"end\"");
        }

        Text((Left + Width - Right) / 2, Height - Bottom + 38, xName, "text-anchor=\"middle\"");
        Text(20, (Top + Height - Bottom) / 2, yName, $"text-anchor=\"middle\" transform=\"rotate(-90 20 {(Top + Height - Bottom) / 2:F1})\"");
        for (var i = 0; i < lines.Count; i++)
        {
            var colour = Colours[i % Colours.Length];
            var places = lines[i].Points.Select(point => (X: x.Place(point.X), Y: y.Place(point.Y))).ToArray();
            Line($"<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{string.Join(' ', places.Select(place => FormattableString.Invariant($"{place.X:F1},{place.Y:F1}")))}\"/>");
            foreach (var place in places)
            {
                Line($"<circle cx=\"{place.X:F1}\" cy=\"{place.Y:F1}\" r=\"3.5\" fill=\"{colour}\"/>");
            }

            Line($"<rect x=\"{Left + (i * 330)}\" y=\"36\" width=\"14\" height=\"4\" fill=\"{colour}\"/>");
            Text(Left + 20 + (i * 330), 42, lines[i].Name, "");
        }

        Text(Left, Height - 40, provenance[0], "font-size=\"10\" fill=\"#666\"");
        Text(Left, Height - 26, string.Join("   ", provenance.Skip(1).Take(3)), "font-size=\"10\" fill=\"#666\"");
        Text(Left, Height - 12, string.Join("   ", provenance.Skip(4)), "font-size=\"10\" fill=\"#666\"");

        return svg.Append("</svg>\n").ToString();

        void Line(FormattableString markup) => svg.Append(markup.ToString(CultureInfo.InvariantCulture)).Append('\n');

        void Text(double atX, double atY, string text, string attributes) =>
            Line($"<text x=\"{atX:F1}\" y=\"{atY:F1}\" {attributes}>{SecurityElement.Escape(text)}</text>");
    }

    private static string Tokens(double count) => count switch
    {
        >= 1 << 20 => $"{count / (1 << 20)}M",
        >= 1 << 10 => $"{count / (1 << 10)}K",
        _ => $"{count}",
    };

    /// <summary>A logarithmic axis between the powers that enclose its values.</summary>
    private readonly struct Axis
    {
        private readonly Func<double, double> logarithm;
        private readonly double from;
        private readonly double to;

        public Axis(Func<double, double> logarithm, IEnumerable<double> values, double from, double to)
        {
            (this.logarithm, this.from, this.to) = (logarithm, from, to);
            var logarithms = values.Select(logarithm).ToArray();
            First = (int)Math.Floor(logarithms.Min());
            Last = Math.Max(First + 1, (int)Math.Ceiling(logarithms.Max()));
        }

        public int First { get; }

        public int Last { get; }

        public double Place(double value) => from + ((logarithm(value) - First) / (Last - First) * (to - from));
    }
}
