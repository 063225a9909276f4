using System.Globalization;
using InfiniAttention;
using Spectre.Console;

namespace LongContext.Adapt;

/// <summary>The accuracy of the three models at one length; null if it was not measured.</summary>
public sealed record RecallRow(int Length, double? Plain, double? Converted, double? Continued);

/// <summary>What <c>adapt</c> found, as tables and as heat maps.</summary>
public sealed record AdaptReport
{
    public required AdaptSettings Settings { get; init; }
    public required IReadOnlyList<RecallRow> Recall { get; init; }

    /// <summary>Gates after the conversion and after the continuation, and memories at the end of the longest input if it was read.</summary>
    public required IReadOnlyList<LayerReport> Before { get; init; }

    public required IReadOnlyList<LayerReport> After { get; init; }

    /// <summary>Each segment of the longest input as the continued model wrote it.</summary>
    public required IReadOnlyList<SegmentReport> Segments { get; init; }

    public Table RecallTable()
    {
        var table = new Table().Border(TableBorder.Rounded).Title("Recall, % of questions at the end about pairs at the start (chance: 6)");
        table.AddColumn(new TableColumn("tokens").RightAligned());
        table.AddColumn(new TableColumn("plain,\nattends to all").RightAligned());
        table.AddColumn(new TableColumn("converted,\nbefore").RightAligned());
        table.AddColumn(new TableColumn("continued,\nafter").RightAligned());
        foreach (var row in Recall)
        {
            table.AddRow(TokenCount.Format(row.Length), Percent(row.Plain), Percent(row.Converted), Percent(row.Continued));
        }

        return table;
    }

    public Table GateTable()
    {
        var table = new Table().Border(TableBorder.Rounded).Title("Gates: beta before, after, moved; the memory's share after");
        table.AddColumn("layer");
        for (var head = 0; head < PlainDecoder.Config.Heads; head++)
        {
            table.AddColumn(new TableColumn($"head {head + 1}").RightAligned());
        }

        foreach (var (before, after) in Before.Zip(After))
        {
            // Adding 0 turns a negative 0, which would be written with two signs, into a positive one.
            var cells = before.Gates.Zip(after.Gates, after.MemoryShares)
                .Select(gate => Invariant($"{gate.First:0.0} to {gate.Second:0.0}: {Math.Round(gate.Second - gate.First, 1) + 0.0:+0.0;-0.0}, {gate.Third:P0}"));
            table.AddRow([after.Layer, .. cells]);
        }
        return table;
    }

    public Table MemoryTable()
    {
        var table = new Table().Border(TableBorder.Rounded)
            .Title($"Memory of the continued model after {RecallEvaluator.StreamedRows(Recall[^1].Length)} rows of {TokenCount.Format(Recall[^1].Length)} tokens, for each key/value head");
        foreach (var column in new[] { "layer", "norm of M", "smallest z", "retrieval error,\nfirst segment", "retrieval error,\nlast segment", "state", "cache of\nfull attention" })
        {
            table.AddColumn(new TableColumn(column).RightAligned());
        }

        foreach (var layer in After)
        {
            var segments = SegmentsOf(layer.Layer);
            table.AddRow(
                layer.Layer, List(layer.MemoryNorms, "0.0"), List(layer.SmallestNormalizers, "0.000"),
                List(segments[0].RetrievalErrors, "0.00"), List(segments[^1].RetrievalErrors, "0.00"),
                Invariant($"{layer.StateBytes / 1024.0:N0} KB"), Invariant($"{layer.FullCacheBytes / 1024.0:N0} KB"));
        }
        return table;
    }

    /// <summary>The memory's share of every head, before and after.</summary>
    public string GatesSvg() => new HeatMap
    {
        Title = "The memory's share of each head",
        Subtitle = "sigmoid(beta) after the conversion and after the continuation",
        Columns = [.. Enumerable.Range(1, (int)PlainDecoder.Config.Heads).Select(head => $"head {head}")],
        Rows = [.. Before.SelectMany((_, layer) => new[] { $"layer {layer + 1}, converted", $"layer {layer + 1}, continued" })],
        Value = (row, column) => (row % 2 == 0 ? Before : After)[row / 2].MemoryShares[column],
        Format = "0.00",
    }.ToSvg();

    /// <summary>The error with which the memory recalls what was just written to it, along the longest input.</summary>
    public string RetrievalSvg()
    {
        var count = SegmentsOf(After[0].Layer).Count;
        var shown = Enumerable.Range(0, int.MaxValue).Select(power => (1 << power) - 1).TakeWhile(segment => segment < count).ToArray();
        var heads = (int)PlainDecoder.Config.KeyValueHeads;
        return new HeatMap
        {
            Title = "Retrieval error of a segment's own keys",
            Subtitle = "|retrieved - written| / |written|, after the segment was written; 0 is exact",
            Columns = [.. shown.Select(segment => segment == 0 ? "segment 1" : $"{segment + 1}")],
            Rows = [.. After.SelectMany((_, layer) => Enumerable.Range(1, heads).Select(head => $"layer {layer + 1}, key head {head}"))],
            Value = (row, column) => SegmentsOf(After[row / heads].Layer)[shown[column]].RetrievalErrors[row % heads],
            IsLargeGood = false,
            Format = "0.00",
        }.ToSvg();
    }

    private List<SegmentReport> SegmentsOf(string layer) => [.. Segments.Where(segment => segment.Layer == layer)];

    private static string Percent(double? share) => share is { } known ? Invariant($"{100 * known:0}") : "–";

    private static string List(IEnumerable<double> numbers, string format) => string.Join(" ", numbers.Select(number => number.ToString(format, CultureInfo.InvariantCulture)));

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
