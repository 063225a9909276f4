using System.Text.RegularExpressions;
using InfiniAttention.Tests.Documentation;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The default device and the default type are the process's: nothing that the library computes may depend on them.</summary>
public partial class SourceTests
{
    [Fact]
    public void Every_tensor_is_created_with_a_type_and_a_device()
    {
        string[] files = Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.cs", SearchOption.AllDirectories);
        var calls = files.SelectMany(Calls).ToArray();
        Assert.True(calls.Length > 30, $"found {calls.Length} calls");
        Assert.DoesNotContain(calls, call => !Device().IsMatch(call) || !Type().IsMatch(call));
    }

    /// <summary>The device "meta" holds no numbers, so that a tensor that is created there by mistake spoils the result or throws.</summary>
    [Fact]
    public void Another_default_device_and_type_change_nothing()
    {
        using var scope = NewDisposeScope();
        LayerCase[] cases =
        [
            new() { Seed = 90, Length = 30, HeadDim = 8, ValueDim = 8, Rotary = RotaryPairing.Halves, Norm = true },
            new() { Seed = 91, Length = 30, HeadDim = 8, ValueDim = 8, Update = MemoryUpdate.Delta, Documents = true, Padding = true, LocalSegments = 2 },
        ];
        foreach (LayerCase one in cases)
        {
            LayerStack model = new(one, 2, dropout: 0.1), other = new(one, 2, dropout: 0.1);
            (Tensor x, TokenInfo? info) = (one.Input().detach(), one.Info());
            Dictionary<string, double[]> expected = Run(model, x, info);
            Device before = get_default_device();
            Dictionary<string, double[]> found;
            try
            {
                set_default_device(META);
                set_default_dtype(ScalarType.BFloat16);
                found = Run(other, x, info);
            }
            finally
            {
                set_default_dtype(ScalarType.Float32);
                set_default_device(before);
            }

            Assert.All(expected, entry => Assert.Equal(entry.Value, found[entry.Key]));
        }
    }

    private static Dictionary<string, double[]> Run(LayerStack model, Tensor x, TokenInfo? info)
    {
        random.manual_seed(92);
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        streamer.Backpropagate(x, x, (y, target) => y.sub(target).pow(2).sum(-1), info: info);
        model.eval();
        using var mode = no_grad();
        var numbers = new Dictionary<string, double[]> { ["output"] = Difference.Numbers(streamer.Forward(x, info)), ["step"] = Difference.Numbers(streamer.Forward(x.narrow(1, 0, 1))) };
        foreach ((string name, var parameter) in model.named_parameters())
        {
            numbers[name] = Difference.Numbers(parameter.grad!);
        }

        return numbers;
    }

    /// <summary>The calls in a file that create a tensor from nothing, with their arguments.</summary>
    private static IEnumerable<string> Calls(string path)
    {
        string code = string.Join('\n', File.ReadLines(path).Where(line => !line.TrimStart().StartsWith("//", StringComparison.Ordinal)));
        foreach (Match match in Creator().Matches(code))
        {
            int end = match.Index + match.Length;
            for (int depth = 1; depth > 0; end++)
            {
                depth += code[end] switch { '(' => 1, ')' => -1, _ => 0 };
            }

            yield return $"{Path.GetFileName(path)}: {code[match.Index..end]}";
        }
    }

    [GeneratedRegex(@"(?<![\w.])(empty|zeros|ones|full|rand|randn|randint|randperm|eye|arange|linspace|tensor|as_tensor|from_array|frombuffer)\(")]
    private static partial Regex Creator();

    [GeneratedRegex(@"device\b|\bCPU\b", RegexOptions.IgnoreCase)]
    private static partial Regex Device();

    [GeneratedRegex(@"ScalarType\.|type\b|\bint64\b|@bool\b", RegexOptions.IgnoreCase)]
    private static partial Regex Type();
}
