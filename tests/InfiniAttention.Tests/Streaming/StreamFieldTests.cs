using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A saved stream with a valid checksum may still come from another program, so the value of every field is checked.</summary>
public class StreamFieldTests
{
    private static readonly LayerCase Case = new() { Segment = 8, Length = 13, Documents = true, WriteWeights = true };

    [Theory]
    [InlineData("9223372036854775800")]
    [InlineData("4611686018427387912")]
    [InlineData("-8")]
    [InlineData("+8")]
    [InlineData(" 8")]
    [InlineData("8.0")]
    [InlineData("many")]
    [InlineData("")]
    public void An_impossible_position_is_refused(string position)
    {
        using var scope = NewDisposeScope();
        using SegmentStreamer streamer = Begun(out _);
        Refused(streamer, "position", metadata => metadata["position"] = position);
    }

    [Fact]
    public void The_largest_position_can_be_continued()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        using SegmentStreamer streamer = Begun(out Tensor x);
        streamer.States.Map(state => new MemoryState(state.Memory, state.Normalizer, StateSchema.MaximumPosition));
        using var file = new MemoryStream();
        streamer.Save(file);
        file.Position = 0;
        streamer.Load(file);
        Assert.True(streamer.Forward(x).isfinite().all().item<bool>());
    }

    [Theory]
    [InlineData("documents", "negative")]
    [InlineData("documents", "too large")]
    [InlineData("documents", "falling")]
    [InlineData("weights", "negative")]
    [InlineData("weights", "not a number")]
    [InlineData("weights", "infinite")]
    [InlineData("keys", "too short")]
    [InlineData("values", "of another type")]
    [InlineData("memory", "missing")]
    [InlineData("normalizer", "of another shape")]
    public void Fields_with_impossible_numbers_types_or_shapes_are_refused(string field, string how)
    {
        using var scope = NewDisposeScope();
        using SegmentStreamer streamer = Begun(out _);
        Refused(streamer, $"0.{field}", tensors: tensors =>
            [.. tensors.Where(entry => how != "missing" || entry.Name != $"0.{field}").Select(entry => entry.Name == $"0.{field}" ? (entry.Name, Changed(entry.Tensor, how)) : entry)]);
        Refused(streamer, "0.other", tensors: tensors => [.. tensors, ("0.other", tensors[0].Tensor)]);
    }

    [Fact]
    public void A_single_state_can_be_saved_and_loaded()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var path = Path.GetTempFileName();
        try
        {
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.BFloat16 })
            {
                foreach (LayerCase one in new[] { Case, Case with { Length = 16, Rotary = RotaryPairing.Halves }, Case with { Rotary = RotaryPairing.Interleaved } })
                {
                    using var layer = (InfiniAttentionModule)one.Layer().to(type);
                    Tensor x = one.Input().detach().to(type);
                    MemoryState state = layer.ForwardFrom(null, x, one.Info()).State;
                    state.Save(path);
                    var loaded = MemoryState.Load(path);
                    Assert.Equal((state.Position, state.Batch), (loaded.Position, loaded.Batch));
                    Difference.Close(layer.ForwardFrom(state, x).Output.to(ScalarType.Float32), layer.ForwardFrom(loaded, x).Output.to(ScalarType.Float32), 0, $"{type}, {one}");
                }
            }

            File.WriteAllBytes(path, File.ReadAllBytes(path)[..^3]);
            Assert.Throws<InvalidDataException>(() => MemoryState.Load(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_state_can_be_created_from_a_memory_and_a_position()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach();
        MemoryState state = layer.ForwardFrom(null, x.narrow(1, 0, 8)).State;
        var made = new MemoryState(state.Memory, state.Normalizer, state.Position);
        Difference.Close(layer.ForwardFrom(state, x).Output, layer.ForwardFrom(made, x).Output, 0, "continued");
        Assert.Throws<ArgumentException>(() => new MemoryState(state.Memory[0], state.Normalizer, 8));
        Assert.Throws<ArgumentException>(() => new MemoryState(state.Memory, state.Normalizer.narrow(2, 0, 1), 8));
        Assert.Throws<ArgumentOutOfRangeException>(() => new MemoryState(state.Memory, state.Normalizer, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new MemoryState(state.Memory, state.Normalizer, StateSchema.MaximumPosition + 1));
        BadInput.IsRefused(() => _ = new MemoryState(state.Memory.narrow(0, 0, 0), state.Normalizer.narrow(0, 0, 0), 8), "memory", "at least one row");
        BadInput.IsRefused(() => _ = new MemoryState(state.Memory, state.Normalizer.sub(100), 8), "normalizer", "negative");
        new MemoryState(state.Memory, state.Normalizer.mul(double.NaN), 8).Dispose(); // as a stream's may be
        Assert.Contains("position 9", Assert.Throws<ArgumentException>(() => layer.ForwardFrom(new MemoryState(state.Memory, state.Normalizer, 9), x)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_a_state_that_is_refused_leaves_nothing()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        MemoryState state = (Case with { LocalSegments = 2 }).Layer().ForwardFrom(null, Case.Input()).State;
        Assert.NotNull(state.Open);
        Assert.NotNull(state.Earlier);
        string path = Path.GetTempFileName();
        try
        {
            SafetensorsFile.Write(
                path,
                new Dictionary<string, string> { ["format"] = "infini-attention-state", ["version"] = "1", ["position"] = $"{state.Position}" },
                [.. StateSchema.Tensors(state, "").Select(entry => entry.Name == "normalizer" ? (entry.Name, entry.Tensor.sub(1e6)) : entry)]);
            Assert.Equal(0, LiveTensors.LeftBy(() => Assert.Contains("normalizer", Assert.Throws<InvalidDataException>(() => MemoryState.Load(path)).Message, StringComparison.Ordinal)));
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static Tensor Changed(Tensor tensor, string how) => how switch
    {
        "negative" => tensor - 9,
        "too large" => tensor + 2,
        "falling" => tensor.flip(-1) + 1,
        "not a number" => tensor * double.NaN,
        "infinite" => full_like(tensor, double.PositiveInfinity),
        "too short" => tensor.narrow(2, 0, 1),
        "of another type" => tensor.to(ScalarType.Float16),
        "of another shape" => tensor.unsqueeze(0),
        _ => tensor,
    };

    /// <summary>Writes the changed stream with a correct checksum and requires that loading it is refused with an error that names the field.</summary>
    private static void Refused(SegmentStreamer streamer, string names,
        Action<Dictionary<string, string>>? metadata = null,
        Func<List<(string Name, Tensor Tensor)>, List<(string Name, Tensor Tensor)>>? tensors = null)
    {
        using var saved = new MemoryStream();
        streamer.Save(saved);
        saved.Position = 0;
        using var file = SafetensorsFile.Read(saved);
        var changed = file.Metadata.ToDictionary(entry => entry.Key, entry => entry.Value);
        metadata?.Invoke(changed);
        List<(string Name, Tensor Tensor)> entries = [.. file.Entries.Keys.Select(name => (name, file.Tensor(name)))];
        using var forged = new MemoryStream();
        SafetensorsFile.Write(forged, changed, tensors is null ? entries : tensors(entries));
        forged.Position = 0;
        (long position, long bytes) = (streamer.Position, streamer.StateBytes);
        var error = Assert.Throws<InvalidDataException>(() => streamer.Load(forged));
        Assert.Contains(names, error.Message, StringComparison.Ordinal);
        Assert.Equal((position, bytes), (streamer.Position, streamer.StateBytes));
    }

    private static SegmentStreamer Begun(out Tensor x)
    {
        using var mode = no_grad();
        var streamer = new SegmentStreamer(new LayerStack(Case, 1));
        x = Case.Input().detach();
        TokenInfo info = Case.Info()!;
        var starts = zeros_like(info.DocumentStarts!);
        starts[TensorIndex.Colon, 10] = true; // in the open segment
        streamer.Forward(x, new TokenInfo { DocumentStarts = starts, WriteWeights = info.WriteWeights!.detach() }).Dispose();
        return streamer;
    }
}
