using InfiniAttention;
using LongContext.Models;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>A folder of each family gives the logits of the family's equations up to the first boundary.</summary>
public sealed class FamilyTests(ITestOutputHelper output) : IDisposable
{
    private static readonly ConversionOptions Options = new() { SegmentLength = FamilyCase.Segment };

    private readonly TemporaryFolder folder = new();

    public static TheoryData<string> Names => FamilyCase.Names;

    public void Dispose() => folder.Dispose();

    [Theory]
    [MemberData(nameof(Names))]
    public void Logits_are_those_of_the_familys_equations_up_to_the_first_boundary(string name)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (weights, tokens) = Write(name);
        var expected = FamilyCase.Of(name).Logits(weights, tokens);
        foreach (var (type, tolerance) in new[] { (float64, 1e-10), (float32, 1e-4) })
        {
            var decoder = PretrainedModel.LoadDecoder(folder.Path, Options, type);
            var difference = Difference(expected, decoder.call(tokens));
            output.WriteLine($"{name}, {type}: logits differ by at most {difference:0.0e+0} of {expected.abs().max().item<double>():0.0}");
            Assert.True(difference < tolerance, $"{type}: {difference:0.0e+0}");
        }
    }

    [Theory]
    [InlineData("Qwen 3", 1)]
    [InlineData("GPT-2", 3)]
    public void A_stream_of_single_tokens_gives_what_one_call_gives_beyond_the_first_boundary(string name, int step)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Write(name);
        var decoder = PretrainedModel.LoadDecoder(folder.Path, Options, float64);
        var tokens = randint(0, FamilyCase.Vocabulary, [1, 5 * FamilyCase.Segment]);
        using var stream = new SegmentStreamer(decoder);
        var pieces = Enumerable.Range(0, (int)tokens.shape[1] / step).Select(i => stream.Forward(tokens.narrow(1, i * step, step))).ToArray();
        Assert.True(Difference(decoder.call(tokens).narrow(1, 0, pieces.Length * step), cat(pieces, 1)) < 1e-10);
    }

    [Fact]
    public void Shards_give_what_one_file_gives()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (weights, tokens) = Write("Phi-3 with LongRoPE", shards: 3);
        var decoder = PretrainedModel.LoadDecoder(folder.Path, Options, float64);
        Assert.True(Difference(FamilyCase.Of("Phi-3 with LongRoPE").Logits(weights, tokens), decoder.call(tokens)) < 1e-10);
    }

    [Fact]
    public void A_checkpoint_of_llama2c_gives_the_logits_of_its_equations()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var shape = new PlainShape { KeyHeads = 2, HeadWidth = 8, Epsilon = 1e-5, Frequencies = PlainModel.Frequencies(10000, 8), IsInterleaved = true };
        foreach (var isTied in new[] { true, false })
        {
            var weights = PlainModel.Weights(shape with { IsTied = isTied });
            WriteLlama2c(weights, isTied);
            var decoder = PretrainedModel.LoadDecoder(folder.Path, Options, float64);
            var tokens = randint(0, FamilyCase.Vocabulary, [2, FamilyCase.Segment]);
            Assert.True(Difference(PlainModel.Logits(shape with { IsTied = isTied }, weights, tokens), decoder.call(tokens)) < 1e-10);
        }
    }

    private void WriteLlama2c(Dictionary<string, Tensor> weights, bool isTied)
    {
        const int Length = 16;
        int[] header = [FamilyCase.Width, FamilyCase.Mlp, FamilyCase.Layers, FamilyCase.Heads, 2, isTied ? FamilyCase.Vocabulary : -FamilyCase.Vocabulary, Length];
        string[] ofLayers =
        [
            "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj",
        ];
        IEnumerable<Tensor> tensors =
        [
            weights["model.embed_tokens.weight"],
            .. ofLayers.SelectMany(name => Enumerable.Range(0, FamilyCase.Layers).Select(i => weights[$"model.layers.{i}.{name}.weight"])),
            weights["model.norm.weight"],
            zeros(Length, 8), // cosines and sines
            .. isTied ? [] : new[] { weights["lm_head.weight"] },
        ];
        File.WriteAllBytes(folder.File("model.bin"), [.. header.SelectMany(BitConverter.GetBytes), .. tensors.SelectMany(weight => weight.contiguous().bytes.ToArray())]);
    }

    private (Dictionary<string, Tensor> Weights, Tensor Tokens) Write(string name, int shards = 1)
    {
        manual_seed(5);
        var family = FamilyCase.Of(name);
        var weights = family.Weights();
        TinyFolder.Write(folder.Path, family.Config, weights, shards);
        return (weights, randint(0, FamilyCase.Vocabulary, [2, FamilyCase.Segment]));
    }

    private static double Difference(Tensor expected, Tensor actual) => (expected - actual).abs().max().to(float64).item<double>();
}
