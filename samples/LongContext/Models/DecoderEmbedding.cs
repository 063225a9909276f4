using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>The embedding of a <see cref="Decoder"/>: what it reads to (B, T, D). B batch, T tokens, D model width.</summary>
public abstract class DecoderEmbedding : nn.Module<Tensor, Tensor>
{
    protected DecoderEmbedding(string name) : base(name)
    {
    }

    /// <summary>A row for each token, (vocabulary, D).</summary>
    public abstract Parameter Weight { get; }

    /// <summary>Rows of a table (n, D) by their numbers (B, T): (B, T, D).</summary>
    protected static Tensor Rows(Tensor table, Tensor numbers) => table.index_select(0, numbers.reshape(-1)).view(numbers.size(0), numbers.size(1), -1);
}

/// <summary>A vector for each token, and, if the configuration has learned positions, one for its place: tokens (B, T) to (B, T, D).</summary>
public sealed class TokenEmbedding : DecoderEmbedding
{
    private readonly long segment;
    private readonly Parameter weight;
    private readonly Parameter? positions;

    public TokenEmbedding(DecoderConfig config, long segment, ScalarType type = ScalarType.Float32, Device? device = null) : base(nameof(TokenEmbedding))
    {
        this.segment = segment;
        weight = new Parameter(randn([config.Vocabulary, config.Width], type, device));
        positions = config.Rotary is null ? new Parameter(zeros([config.Length, config.Width], type, device)) : null;
        RegisterComponents();
    }

    public override Parameter Weight => weight;

    /// <summary>(length, D); null for rotary positions.</summary>
    public Parameter? Positions => positions;

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = Rows(weight, tokens);
        return (positions is null ? x : x.add(Rows(positions, PlacesOf(tokens)), Numbers.One)).MoveToOuterDisposeScope();
    }

    /// <summary>The learned positions restart at each segment, as rotary ones do: a stream has more tokens than the model has positions.</summary>
    private Tensor PlacesOf(Tensor tokens)
    {
        var first = SegmentStreamer.Current?.Position ?? 0;
        return tensor([.. Enumerable.Range(0, (int)tokens.size(1)).Select(t => (first + t) % segment)], int64, tokens.device).unsqueeze(0); // (1, T)
    }
}
