using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equations 6 to 10 of the paper (Munkhdalai, Faruqui, Gopal, arXiv 2404.07143) for the tokens of S segments.</summary>
/// <remarks>B batch, S segments, n tokens of each, G key/value heads, R = H/G query heads of each, K key width, V value width.</remarks>
internal sealed class SegmentAttention(InfiniAttentionOptions options)
{
    private readonly UpdateRule update = UpdateRule.Of(options.Update, options.DeltaNormalizer);

    /// <param name="queries">Q of the last n tokens of each segment.</param>
    /// <param name="tokens">K and V of each segment so far, and of the earlier segment if it is in view.</param>
    /// <param name="before">M and z before the first segment.</param>
    /// <param name="learned">The gates and the norms.</param>
    /// <param name="steps">What this block needs of the equations.</param>
    /// <returns>A, (B, S, n, G, R, V) in the memory's type, and the memory before each segment and after the last.</returns>
    public (Tensor A, CompressiveMemory Memory) Attend(SegmentQueries queries, SegmentTokens tokens, MemoryMatrix before, MixParameters learned, AttentionSteps steps)
    {
        using var scope = NewDisposeScope();

        // In a group the memory before this process's stretch arrives during the local attention.
        var stretch = steps.Stretch is null ? null
            : new StretchMemory(steps.Stretch, update, before, tokens, steps.Writes ? SegmentTerms.Of(tokens, before.M.dtype, learned.Norm) : null);

        // Equation 6: A_dot = softmax(Q K^T / sqrt(K)) V
        var local = Describe.As(LocalAttention.Attend(queries.Local, tokens.InView(), steps.Dropout, !options.SecondDerivatives), before.M.dtype);

        // Equations 8 and 9: M_s = T_s M_{s-1} + W_s. They come first because all segments are computed at once, and each reads M_{s-1}.
        var memory = stretch is not null ? stretch.End()
            : steps.Writes ? CompressiveMemory.Write(update, before.M, before.Z, tokens, learned.Norm)
            : CompressiveMemory.Unchanged(before.M, before.Z);

        // Equations 7 and 10: A_mem = sigma(Q) M_{s-1} / (sigma(Q) z_{s-1}), A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot
        var a = steps.Reads ? Mix(queries.Memory, tokens.Marks, memory, learned, local) : GatedMix.OfEmpty(learned.Beta, local, options.EmptyMemory);

        return (a.MoveToOuterDisposeScope(), memory.MoveToOuterDisposeScope());
    }

    /// <summary>Equations 7 and 10: in tensor operators, or, on a CPU without gradients, in managed code that computes the same.</summary>
    private Tensor Mix(Tensor q, SegmentMarks marks, CompressiveMemory memory, MixParameters learned, Tensor local)
    {
        var (beta, rule) = (learned.Beta, new ReadRule(options.EmptyMemory, learned.Norm));
        if (marks.SeesMemory(q.size(2)) is { } seesMemory)
        {
            return is_grad_enabled() ? MixDocuments(q, seesMemory, memory, learned, local) : GatedMix.Of(beta, local, memory.Read(q, learned.Norm), seesMemory, rule);
        }

        return HostRetrieval.Takes(q, memory) ? HostRetrieval.Mix(q, memory, beta, rule, local)
            : HostPasses.TakesMix(q, local) ? HostPasses.ReadAndMix(q, memory, beta, rule, local)
            : GatedMix.Of(beta, local, memory.Read(q, learned.Norm), null, rule);
    }

    /// <summary>
    /// The same with gradients if documents start among the tokens. Hiding a memory that is not finite from the queries behind a start is not enough, because the gradient of
    /// the product multiplies it by their 0: it is read as 0, and the queries that do see it get NaN afterwards.
    /// </summary>
    private Tensor MixDocuments(Tensor q, Tensor seesMemory, CompressiveMemory memory, MixParameters learned, Tensor local)
    {
        var isSpoilt = memory.IsSpoilt();                                                                    // (B, S, G)
        var reads = seesMemory.unsqueeze(-1).logical_and(isSpoilt.unsqueeze(2)).unsqueeze(-1).unsqueeze(-1); // (B, S, n, G, 1, 1)
        var a = GatedMix.Of(learned.Beta, local, memory.Without(isSpoilt).Read(q, learned.Norm), seesMemory, new(options.EmptyMemory, learned.Norm));
        return a.masked_fill(reads, Scalars.NotANumber);
    }
}

/// <summary>Q as the local attention and as the memory see it, (B, S, n, G, R, K): with and without position.</summary>
internal readonly record struct SegmentQueries(Tensor Local, Tensor Memory);

/// <summary>The gates and the norms in the memory's type.</summary>
/// <param name="Beta">The gates, (H)</param>
/// <param name="Norm">The norms; null for none.</param>
internal readonly record struct MixParameters(Tensor Beta, NormScales? Norm);

/// <summary>What a block needs of the equations.</summary>
/// <param name="Writes">Whether its segments are whole and the memory after them is used.</param>
/// <param name="Reads">Whether the memory before them can hold anything.</param>
/// <param name="Dropout">Probability of dropping a local attention weight.</param>
/// <param name="Stretch">If the block begins this process's stretch of a sequence that a group shares: that stretch.</param>
internal readonly record struct AttentionSteps(bool Writes, bool Reads, double Dropout, Stretch? Stretch = null);
