using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>The shape of a <see cref="ContextDecoder"/>.</summary>
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
/// The language model of all comparisons: a small <see cref="Decoder"/> with the embeddings of a token and the two before it, and a head tied to the embedding. The
/// attention, which decides how the past is seen, is given, and keeps what it needs of the past. B batch, T tokens, D model width.
/// </summary>
public sealed class ContextDecoder : nn.Module<Tensor, Tensor>
{
    private readonly Decoder decoder;
    private readonly RecurrentMemory? memory;

    /// <param name="options">Sizes.</param>
    /// <param name="attention">The attention of a layer, counted from 0.</param>
    /// <param name="memoryTokens">The tokens of a recurrent memory; 0 for none.</param>
    public ContextDecoder(DecoderOptions options, Func<int, ContextAttention> attention, int memoryTokens = 0) : base(nameof(ContextDecoder))
    {
        Options = options;
        var embedding = new NeighbourEmbedding(options.Vocabulary, options.Width);
        var config = DecoderConfig.Small(options.Vocabulary, options.Width, options.Layers, options.Heads, options.HeadWidth, options.SegmentLength) with { IsTied = true };
        decoder = new Decoder(config, new(embedding, attention, layer => InitialWeights.Draw(options.Layers, layer.Mlp)));
        memory = memoryTokens > 0 ? new RecurrentMemory(options, memoryTokens) : null;
        embedding.Draw();
        RegisterComponents();
    }

    public DecoderOptions Options { get; }

    public IEnumerable<ContextAttention> Attentions => decoder.Body.Layers.Select(layer => (ContextAttention)layer.Attention);

    /// <summary>Logits of the next token after each, continuing the documents under way.</summary>
    /// <param name="tokens">(B, T, 3): each token and the two before it, the nearer one first; -1 where there is none.</param>
    /// <returns>(B, T, vocabulary)</returns>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var body = decoder.Body;
        var x = body.Embedding.call(tokens);
        x = memory is null ? Outputs(x) : memory.call(x, Outputs);
        return decoder.Logits(x).MoveToOuterDisposeScope();

        Tensor Outputs(Tensor embedded) => body.Norm.call(body.Through(embedded));
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

    /// <summary>Sets the gates so that nothing is read from the memory, and lets no training open them.</summary>
    /// <returns>Whether there are gates.</returns>
    public bool CloseGates()
    {
        const double Closed = -30;
        using var _ = no_grad();
        Tensor[] gates = [.. Attentions.Select(attention => attention.Gate).OfType<Tensor>()];
        Array.ForEach(gates, gate => gate.fill_(Closed).requires_grad_(false));
        return gates.Length > 0;
    }

    /// <summary>Copies the weights of a model with another attention. Parameters that the other model does not have stay unchanged.</summary>
    /// <returns>The names of the parameters that the other model does not have.</returns>
    public IReadOnlyList<string> Take(ContextDecoder other)
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
        }

        base.Dispose(disposing);
    }
}
