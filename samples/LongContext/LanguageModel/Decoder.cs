using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>The shape of a <see cref="Decoder"/>.</summary>
public sealed record DecoderOptions
{
    public required long Vocabulary { get; init; }
    public long Width { get; init; } = 96;
    public int Layers { get; init; } = 2;
    public long Heads { get; init; } = 3;
    public long HeadWidth { get; init; } = 32;
    public long SegmentLength { get; init; } = 128;
}

/// <summary>
/// The language model of all comparisons: embeddings of a token and the two before it, pre-norm blocks of attention and MLP, and a head tied to the
/// embedding. The attention, which decides how the past is seen, is given. B batch, T tokens, D model width.
/// </summary>
public sealed class Decoder : nn.Module<Tensor, Tensor>
{
    /// <summary>How many earlier tokens the embedding of a position includes.</summary>
    public const int Before = 2;

    private readonly Embedding embedding;
    private readonly ModuleList<Linear> previous;
    private readonly ModuleList<DecoderBlock> blocks;
    private readonly RecurrentMemory? memory;
    private readonly RootMeanSquareNorm norm;
    private readonly Scalar scale;

    /// <param name="options">Sizes.</param>
    /// <param name="attention">The attention of a layer, counted from 0.</param>
    /// <param name="memoryTokens">The tokens of a recurrent memory; 0 for none.</param>
    public Decoder(DecoderOptions options, Func<int, ContextAttention> attention, int memoryTokens = 0) : base(nameof(Decoder))
    {
        Options = options;
        scale = 0.5 * Math.Sqrt(options.Width);
        embedding = nn.Embedding(options.Vocabulary, options.Width);
        previous = nn.ModuleList(Enumerable.Range(0, Before).Select(_ => nn.Linear(options.Width, options.Width, hasBias: false)).ToArray());
        blocks = nn.ModuleList(Enumerable.Range(0, options.Layers).Select(layer => new DecoderBlock(options, attention(layer))).ToArray());
        memory = memoryTokens > 0 ? new RecurrentMemory(options, memoryTokens) : null;
        norm = new RootMeanSquareNorm(options.Width);
        var deviation = Math.Pow(options.Width, -0.5);
        nn.init.normal_(embedding.weight!, 0, deviation);
        foreach (var map in previous)
        {
            nn.init.normal_(map.weight!, 0, 0.7 * deviation);
        }

        RegisterComponents();
    }

    public DecoderOptions Options { get; }

    public IEnumerable<ContextAttention> Attentions => blocks.Select(block => block.Attention);

    /// <summary>Logits of the next token after each, continuing the documents under way.</summary>
    /// <param name="tokens">(B, T, 3): each token and the two before it, the nearer one first; -1 where there is none.</param>
    /// <returns>(B, T, vocabulary)</returns>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = Embed(tokens);
        x = memory is null ? Blocks(x) : memory.call(x, Blocks);
        return norm.call(x).matmul(embedding.weight!.t()).MoveToOuterDisposeScope();
    }

    /// <summary>The sum of a token's embedding and of those of the two before it, each mapped by a matrix of its own, (B, T, 3) to (B, T, D).</summary>
    private Tensor Embed(Tensor tokens)
    {
        var (vocabulary, maps) = (Options.Vocabulary, 1 + Before);
        var table = cat([embedding.weight!, .. previous.Select(map => map.call(embedding.weight!)), zeros(1, Options.Width)], 0);
        var none = full([1], maps * vocabulary, int64); // the row of zeros
        var places = where(tokens.lt(Numbers.Zero), none, tokens.add(arange(0, maps * vocabulary, vocabulary, int64), Numbers.One));
        return table.index_select(0, places.flatten()).view(tokens.size(0), tokens.size(1), maps, Options.Width).sum(dim: 2).mul(scale);
    }

    private Tensor Blocks(Tensor x)
    {
        foreach (var block in blocks)
        {
            x = block.call(x);
        }

        return x;
    }

    /// <summary>Starts new documents.</summary>
    public void Forget()
    {
        memory?.Forget();
        foreach (var attention in Attentions)
        {
            attention.Forget();
        }
    }

    /// <summary>Cuts the graph: no gradient flows past this point.</summary>
    public void Detach()
    {
        memory?.Detach();
        foreach (var attention in Attentions)
        {
            attention.Detach();
        }
    }

    /// <summary>Sets the gates so that nothing is read from the memory.</summary>
    /// <returns>Whether there are gates.</returns>
    public bool CloseGates()
    {
        const double Closed = -30;
        using var _ = no_grad();
        Tensor[] gates = [.. Attentions.Select(attention => attention.Gate).OfType<Tensor>()];
        Array.ForEach(gates, gate => gate.fill_(Closed));
        return gates.Length > 0;
    }

    /// <summary>Copies the weights of a model with another attention. Parameters that the other model does not have stay unchanged.</summary>
    /// <returns>The names of the parameters that the other model does not have.</returns>
    public IReadOnlyList<string> Take(Decoder other)
    {
        using var _ = no_grad();
        var given = other.state_dict().ToDictionary(entry => Common(entry.Key), entry => entry.Value);
        var own = state_dict();
        foreach (var (name, weight) in own.Where(entry => given.ContainsKey(Common(entry.Key))))
        {
            weight.copy_(given[Common(name)]);
        }

        return [.. own.Keys.Where(name => !given.ContainsKey(Common(name)))];

        // The projections of an Infini-attention layer are one module deeper.
        static string Common(string name) => name.Replace($".{nameof(InfiniContext.layer)}.", ".", StringComparison.Ordinal);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
            scale.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>x + attention(norm(x)), then x + MLP(norm(x)).</summary>
public sealed class DecoderBlock : nn.Module<Tensor, Tensor>
{
    private readonly RootMeanSquareNorm attention_norm, mlp_norm;
    private readonly ContextAttention attention;
    private readonly Linear up, down;

    public DecoderBlock(DecoderOptions options, ContextAttention attention) : base(nameof(DecoderBlock))
    {
        var width = options.Width;
        attention_norm = new RootMeanSquareNorm(width);
        mlp_norm = new RootMeanSquareNorm(width);
        this.attention = attention;
        up = nn.Linear(width, 2 * width);
        down = nn.Linear(2 * width, width);
        nn.init.normal_(up.weight!, 0, InitialProjections.Deviation(up.weight!, 1));
        nn.init.normal_(down.weight!, 0, InitialProjections.Deviation(down.weight!, 2 * options.Layers));
        nn.init.zeros_(up.bias!);
        nn.init.zeros_(down.bias!);
        RegisterComponents();
    }

    public ContextAttention Attention => attention;

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x.add(attention.call(attention_norm.call(x)), Numbers.One);
        x = x.add(down.call(nn.functional.gelu(up.call(mlp_norm.call(x)))), Numbers.One);
        return x.MoveToOuterDisposeScope();
    }
}
