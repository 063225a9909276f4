using System.Collections.Concurrent;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Rotary position embedding (Su et al., arXiv 2104.09864) for positions 0 to N-1 of a segment, and negative ones for keys of earlier segments. Scores depend only on
/// distances, so positions that restart at each segment give the same scores as absolute ones, exact at any position of a stream.
/// It rotates the first <c>width</c> of a head's K elements.
/// </summary>
internal sealed class RotaryEmbedding(RotaryOptions options, long width, long first, long end) : IDisposable
{
    private readonly double[] frequencies = options.Scaling?.Frequencies(options.Theta, width, end - first) ?? RotaryScaling.Plain(options.Theta, width);
    private readonly double amplitude = options.Scaling?.Amplitude ?? 1;

    // One table for each device and type that the layer was used with. Tables are not weights, and threads share them.
    private readonly ConcurrentDictionary<(DeviceType, int, ScalarType), Lazy<(Tensor Cos, Tensor Sin)>> tables = new();

    /// <summary>Rotates the first elements of x (B, S, n, …, K), whose first token is at <paramref name="position"/> of its segment.</summary>
    public Tensor Rotate(Tensor x, long position)
    {
        using var scope = NewDisposeScope();
        var rest = x.size(-1) - width;
        return (rest == 0 ? Turn(x, position) : cat([Turn(x.narrow(-1, 0, width), position), x.narrow(-1, width, rest)], -1)).MoveToOuterDisposeScope();
    }

    private Tensor Turn(Tensor x, long position)
    {
        var (cos, sin) = tables.GetOrAdd((x.device_type, x.device_index, x.dtype), _ => new(() => CreateTables(x.device, x.dtype))).Value;
        return x.mul(PerToken(cos)).addcmul_(Partner(x), PerToken(sin), Scalars.One);

        // (n, W), or (n, 1 …, W) for the heads between
        Tensor PerToken(Tensor table)
        {
            var rows = table.narrow(0, position - first, x.size(2));
            for (var dimension = x.dim(); dimension > 4; dimension--)
            {
                rows = rows.unsqueeze(1);
            }

            return rows;
        }
    }

    /// <summary>Each element's partner in its pair.</summary>
    private Tensor Partner(Tensor x) => options.Pairing == RotaryPairing.Halves
        ? x.roll(width / 2, -1)
        : x.reshape(-1, 2).flip(1).view(Describe.Sizes(x));

    /// <summary>Cosines times the amplitude, and sines times it that are negative for the first element of a pair, each (end - first, width).</summary>
    private (Tensor Cos, Tensor Sin) CreateTables(Device device, ScalarType type)
    {
        var rows = end - first;
        var (cos, sin) = (new double[rows * width], new double[rows * width]);
        for (var row = 0L; row < rows; row++)
        {
            for (var pair = 0L; pair < width / 2; pair++)
            {
                var angle = (first + row) * frequencies[pair];
                var (one, other) = options.Pairing == RotaryPairing.Halves ? (pair, pair + (width / 2)) : (2 * pair, (2 * pair) + 1);
                cos[(row * width) + one] = cos[(row * width) + other] = amplitude * Math.Cos(angle);
                sin[(row * width) + one] = -amplitude * Math.Sin(angle);
                sin[(row * width) + other] = amplitude * Math.Sin(angle);
            }
        }

        // The tables are normal tensors, even if they are first used in inference mode.
        using var noInference = inference_mode(false);
        using var noGrad = no_grad();
        return (Table(cos), Table(sin));

        Tensor Table(double[] numbers)
        {
            using var table = tensor(numbers, [rows, width], ScalarType.Float64, CPU);
            return table.to(type, device).DetachFromDisposeScope();
        }
    }

    public void Dispose()
    {
        foreach (var table in tables.Values)
        {
            table.Value.Cos.Dispose();
            table.Value.Sin.Dispose();
        }

        tables.Clear();
    }
}
