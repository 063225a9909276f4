using InfiniAttention;
using LongContext.Adapt;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>Adapters in place of weights: what they compute, what is trained, and what is saved.</summary>
public sealed class LoraTests : IDisposable
{
    private const int Length = 5 * FamilyCase.Segment;

    private static readonly LoraSettings Lora = new(Rank: 3, Alpha: 5);
    private static readonly FolderTrainingSettings Training = new(Length, Steps: 6, Rate: 1e-2, Seed: 1, Batch: 2, Lora);
    private static readonly string[] Projections = ["q_proj", "k_proj", "v_proj", "o_proj"];

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("LLaMA with biases and linear scaling")]
    [InlineData("Qwen 3")]
    [InlineData("Phi-3 with LongRoPE")]
    [InlineData("GPT-2")]
    public void New_adapters_change_nothing_and_merged_ones_compute_the_same_as_before(string name)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var decoder = Load(name, float32);
        var tokens = Tokens();
        var expected = decoder.call(tokens);

        decoder.AddAdapters(Lora);
        Assert.Equal(0, Difference(expected, decoder.call(tokens)));

        DrawB(decoder);
        var adapted = decoder.call(tokens);
        Assert.True(Difference(expected, adapted) > 0.1);

        decoder.MergeAdapters();
        Assert.DoesNotContain(decoder.state_dict().Keys, LoraLinear.IsOfAdapter);
        Assert.True(Difference(adapted, decoder.call(tokens)) < 2e-5 * adapted.abs().max().item<float>());

        PretrainedModel.Save(decoder, Options(name), folder.Path, folder.File("merged"));
        Assert.Equal(0, Difference(decoder.call(tokens), PretrainedModel.LoadDecoder(folder.File("merged"), Options(name)).call(tokens)));
    }

    [Theory]
    [InlineData("Qwen 3")]
    [InlineData("GPT-2")]
    public void Gradients_of_adapters_follow_from_those_of_the_merged_weights(string name)
    {
        using var scope = NewDisposeScope();
        var (adapted, merged) = (Load(name, float64), Load(name, float64));
        adapted.AddAdapters(Lora);
        DrawB(adapted);
        var scale = Lora.Alpha / Lora.Rank;
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            foreach (var projection in Projections)
            {
                var (weight, a, b) = (Parameter(merged, i, projection, "weight"), Parameter(adapted, i, projection, "lora_A"), Parameter(adapted, i, projection, "lora_B"));
                using var noGrad = no_grad();
                weight.add_(b.matmul(a) * scale);
            }
        }

        var (tokens, next) = (Tokens(), Tokens());
        foreach (var decoder in new[] { adapted, merged })
        {
            nn.functional.cross_entropy(decoder.call(tokens).transpose(1, 2), next).backward();
        }

        // L(W + s B A): dL/dB = s dL/dW A', dL/dA = s B' dL/dW.
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            foreach (var projection in Projections)
            {
                var ofWeight = Parameter(merged, i, projection, "weight").grad!;
                var (a, b) = (Parameter(adapted, i, projection, "lora_A"), Parameter(adapted, i, projection, "lora_B"));
                Assert.True(ofWeight.abs().max().item<double>() > 1e-4);
                Assert.True(Difference(scale * ofWeight.matmul(a.t()), b.grad!) < 1e-12, $"B of layer {i}, {projection}");
                Assert.True(Difference(scale * b.t().matmul(ofWeight), a.grad!) < 1e-12, $"A of layer {i}, {projection}");
                Assert.Null(Parameter(adapted, i, projection, "weight").grad);
            }
        }
    }

    [Fact]
    public void Only_adapters_and_the_memorys_parameters_are_trained()
    {
        using var scope = NewDisposeScope();
        var decoder = Load("Qwen 3", float32);
        decoder.AddAdapters(Lora);
        var (width, queries, keys) = (FamilyCase.Width, FamilyCase.Heads * 12, 2 * 12); // heads of 12, two for keys and values
        var ofLayer = Lora.Rank * ((width + queries) + (2 * (width + keys)) + (queries + width));
        var trained = decoder.named_parameters().Where(entry => entry.parameter.requires_grad).ToArray();
        Assert.Equal(FamilyCase.Layers * ofLayer, trained.Where(entry => entry.name.Contains(".lora_")).Sum(entry => entry.parameter.numel()));
        Assert.All(trained, entry => Assert.True(entry.name.Contains(".lora_") || entry.name.EndsWith("self_attn.gate") || entry.name.Contains(".memory_"), entry.name));
        Assert.Equal(FamilyCase.Layers, trained.Count(entry => entry.name.EndsWith(".gate")));
        Assert.Contains(trained, entry => entry.name.Contains(".memory_norm."));

        var before = Values(decoder);
        using var training = new FolderTraining(decoder, [Text()], Training);
        Assert.Equal(Training.Steps, training.Run(0, _ => { }, CancellationToken.None));

        var after = Values(decoder);
        var frozen = before.Keys.Except(trained.Select(entry => entry.name)).ToArray();
        Assert.All(frozen, name => Assert.Equal(before[name], after[name]));
        Assert.All(trained, entry => Assert.NotEqual(before[entry.name], after[entry.name]));
    }

    [Fact]
    public void A_training_goes_on_from_a_checkpoint_that_holds_the_adapters_alone()
    {
        using var scope = NewDisposeScope();
        var path = folder.File("training.zip");
        var whole = Trained(0, Training.Steps);
        var half = Trained(0, Training.Steps / 2, save: path);
        Assert.NotEqual(Values(whole), Values(half));
        Assert.Equal(Values(whole), Values(Trained(Training.Steps / 2, Training.Steps, load: path)));

        using var zip = System.IO.Compression.ZipFile.OpenRead(path);
        var trained = half.parameters().Where(parameter => parameter.requires_grad).Sum(parameter => parameter.numel());
        Assert.InRange(zip.GetEntry("weights")!.Length, 4 * trained, (4 * trained) + (70 * half.named_parameters().Count()));
        Assert.InRange(zip.GetEntry("optimizer")!.Length, 8 * trained, (8 * trained) + (200 * half.named_parameters().Count()));

        var other = Load("Qwen 3", float32);
        using (no_grad())
        {
            other.Body.Embedding.Weight[0, 0].add_(1);
        }

        other.AddAdapters(Lora);
        using var foreign = new FolderTraining(other, [Text()], Training);
        Assert.Contains("other weights", Assert.Throws<InputException>(() => foreign.Load(path)).Message);
        using var ranked = new FolderTraining(half, [Text()], Training with { Adapters = Lora with { Alpha = 6 } });
        Assert.Contains("belongs to another training", Assert.Throws<InputException>(() => ranked.Load(path)).Message);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(-1, 1)]
    [InlineData(25, 1)] // keys and values are 24 wide
    [InlineData(3, 0)]
    [InlineData(3, double.NaN)]
    public void Ranks_and_alphas_out_of_range_are_refused(int rank, double alpha)
    {
        using var scope = NewDisposeScope();
        var decoder = Load("Qwen 3", float32);
        Assert.Throws<InputException>(() => decoder.AddAdapters(new(rank, alpha)));
        Assert.All(decoder.parameters(), parameter => Assert.True(parameter.requires_grad));
    }

    /// <summary>A decoder whose training did some of the steps.</summary>
    private Decoder Trained(int first, int last, string? save = null, string? load = null)
    {
        var decoder = Load("Qwen 3", float32);
        decoder.AddAdapters(Lora);
        using var training = new FolderTraining(decoder, [Text()], Training);
        using var stop = new CancellationTokenSource();
        Assert.Equal(first, load is null ? 0 : training.Load(load));
        Assert.Equal(last, training.Run(first, done =>
        {
            if (done.Step == last)
            {
                stop.Cancel();
            }
        }, stop.Token));
        if (save is not null)
        {
            training.Save(save, last);
        }

        return decoder;
    }

    private Decoder Load(string name, ScalarType type)
    {
        manual_seed(7);
        var family = FamilyCase.Of(name);
        TinyFolder.Write(folder.Path, family.Config, family.Weights());
        TinyFolder.WriteTokenizer(folder.Path, ("w1", 1));
        return PretrainedModel.LoadDecoder(folder.Path, Options(name), type);
    }

    /// <summary>Gates half open, so that the memory counts, and as much of the library's options as the family can have.</summary>
    private static ConversionOptions Options(string name) => new()
    {
        SegmentLength = FamilyCase.Segment,
        Update = MemoryUpdate.Delta,
        GateInit = 0,
        Memory = new(Norm: true, OwnProjections: name == "Qwen 3", LocalSegments: name == "GPT-2" ? 1 : 2),
    };

    private static Tensor Tokens() => randint(0, FamilyCase.Vocabulary, [2, Length]);

    private static Tensor Text()
    {
        var random = new Random(4);
        return tensor(Enumerable.Range(0, 4 * Length).Select(_ => random.NextInt64(FamilyCase.Vocabulary)).ToArray());
    }

    private static void DrawB(Decoder decoder)
    {
        using var noGrad = no_grad();
        foreach (var (_, parameter) in decoder.named_parameters().Where(entry => entry.name.EndsWith(".lora_B")))
        {
            nn.init.normal_(parameter, 0, 0.3);
        }
    }

    private static TorchSharp.Modules.Parameter Parameter(Decoder decoder, int layer, string projection, string name) =>
        decoder.Body.Layers[layer].Infini.get_parameter($"{projection}.{name}")!;

    private static Dictionary<string, float[]> Values(Decoder decoder) =>
        decoder.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.detach().contiguous().data<float>().ToArray());

    private static double Difference(Tensor expected, Tensor actual) => (expected - actual).abs().max().to(float64).item<double>();
}
