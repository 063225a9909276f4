using Spectre.Console;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Measures what each kernel of the layer costs: operations and bytes by count, time, and its share of the machine's peak.</summary>
internal static class CostsCommand
{
    private const long Tokens = 32 * Setting.Kilo;
    private const int Rounds = 9;

    public static void Run(Device device, string path)
    {
        CsvFile.MakeFolder(path);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var clock = new Stopclock(device, TimeSpan.Zero, 1);
        var (operations, bytes) = (PeakOperations(clock, device), PeakBytes(clock, device));
        AnsiConsole.MarkupLineInterpolated($"Peak as measured: {operations / 1e9:F0} GFLOP/s in a matrix product, {bytes / 1e9:F1} GB/s read and written in a copy.");
        var rows = new List<IReadOnlyList<object?>>
        {
            new object?[] { "shape", "part", "operations per token", "bytes per token", "ns per token", "share of peak operations", "share of peak bandwidth" },
        };
        foreach (var shape in new[] { LayerShape.Long, LayerShape.Short })
        {
            rows.AddRange(Measure(clock, device, shape, operations, bytes));
        }

        var table = new Table().AddColumns([.. rows[0].Select(name => $"{name}")]);
        foreach (var row in rows.Skip(1))
        {
            table.AddRow([.. row.Select((value, column) => value is double number ? number.ToString(column >= 5 ? "P1" : "F0") : $"{value}")]);
        }

        AnsiConsole.Write(table);
        CsvFile.Write(path, Machine.Provenance(device).Concat([$"peak operations: {operations:G4} per second", $"peak bandwidth: {bytes:G4} bytes per second"]), rows);
        AnsiConsole.MarkupLineInterpolated($"Written to {path}.");
    }

    private static IEnumerable<IReadOnlyList<object?>> Measure(Stopclock clock, Device device, LayerShape shape, double peakOperations, double peakBytes)
    {
        manual_seed(0);
        var layer = new InfiniAttentionModule(shape.Options, device);
        var x = randn([1, Tokens, shape.Width], device: device);
        var kernels = new UnavoidableKernels(new(layer), x, BlockSize.Segments(layer.Options, x) * shape.SegmentLength);
        var name = $"D {shape.Width}, H {shape.Heads}, N {shape.SegmentLength}";

        // All take turns, so that a disturbance affects each of them.
        Action[] works = [.. kernels.Parts.Select(part => (Action)(() => kernels.Run([part]))), kernels.Run, () => layer.call(x)];
        var seconds = works.Select(_ => new double[Rounds]).ToArray();
        foreach (var work in works)
        {
            clock.Time(work);
        }

        for (var round = 0; round < Rounds; round++)
        {
            for (var i = 0; i < works.Length; i++)
            {
                seconds[i][round] = clock.Time(works[i]);
            }
        }

        var perToken = seconds.Select(times => Series.Quantile(times, 0.5) / Tokens).ToArray();
        for (var i = 0; i < kernels.Parts.Count; i++)
        {
            var part = kernels.Parts[i];
            yield return Row(part.Name, part.OperationsPerToken, part.BytesPerToken, perToken[i]);
        }

        var (operations, bytes) = (kernels.Parts.Sum(part => part.OperationsPerToken), kernels.Parts.Sum(part => part.BytesPerToken));
        yield return Row("all of these in turn", operations, bytes, perToken[^2]);
        yield return Row("the layer's forward", operations, bytes, perToken[^1]);

        object?[] Row(string part, double operations, double bytes, double secondsPerToken) =>
            [name, part, operations, bytes, secondsPerToken * 1e9, operations / secondsPerToken / peakOperations, bytes / secondsPerToken / peakBytes];
    }

    /// <summary>Operations per second of a large matrix product.</summary>
    private static double PeakOperations(Stopclock clock, Device device)
    {
        const long Size = 2048;
        using Tensor a = randn([Size, Size], device: device), b = randn([Size, Size], device: device);
        return 2.0 * Size * Size * Size / Fastest(clock, () => a.mm(b));
    }

    /// <summary>Bytes per second read and written by a copy that is larger than the processor's caches.</summary>
    private static double PeakBytes(Stopclock clock, Device device)
    {
        using Tensor from = ones([16 * Setting.Kilo * Setting.Kilo], device: device), to = zeros_like(from);
        return 2.0 * from.NumberOfElements * from.ElementSize / Fastest(clock, () => to.copy_(from));
    }

    private static double Fastest(Stopclock clock, Action work) => Enumerable.Range(0, Rounds + 2).Min(_ => clock.Time(work));
}
