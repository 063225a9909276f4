using System.Numerics;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// sigma of heads for gradients on a CPU, after the norm if there is one: a vectorised pass forward and one back, in place of about eight passes by
/// operators, seventeen with a norm. It computes the same as <see cref="FeatureMap.ApplyToHeads"/> after <see cref="NormScales"/>, which are its oracle and handle all other cases.
/// </summary>
/// <remarks>
/// Forward, y = s r x with r = 1 / rms(x), and sigma(y); without a norm y = x. Back, for a gradient g of sigma(y), h = sigma'(y) g is that of y, where
/// sigma'(y) = min(sigma(y), 1); that of x is s r (h - r² x mean(h x)), and that of s the sum of r (h x) over the tokens of a head.
/// B batch, S segments, n tokens of each, G key/value heads, R = H/G query heads of each, K key width.
/// </remarks>
internal sealed class HostFeatures : autograd.SingleTensorFunction<HostFeatures>
{
    /// <summary>What <see cref="backward"/> returned last on this thread: TorchSharp reads it after the return, so that it can be disposed of only later.</summary>
    [ThreadStatic]
    private static List<Tensor>? returned;

    /// <inheritdoc/>
    public override string Name => nameof(HostFeatures);

    /// <summary>Whether the passes can process heads (B, S, n, G, R, K): with gradients, on a CPU, in the memory's type, contiguous, a multiple of a vector wide.</summary>
    public static bool Takes(Tensor heads, ScalarType memoryType) =>
        HostVector.HasExp && is_grad_enabled() && heads.requires_grad && heads.dtype == memoryType && HostVector.AreVectors(heads);

    /// <summary>sigma per head for batched products.</summary>
    /// <param name="heads">(B, S, n, G, R, K)</param>
    /// <param name="scale">s of the norm before sigma, (H); null for no norm.</param>
    /// <returns>(B*S*G, R*n, K)</returns>
    public static Tensor Apply(Tensor heads, Tensor? scale)
    {
        using var scope = NewDisposeScope();
        DisposeOfReturned();
        return apply(heads, scale!).MoveToOuterDisposeScope();
    }

    /// <summary>Disposes of the gradients that the last run on this thread returned. The next call does so too; until then the heads of a block stay alive.</summary>
    public static void DisposeOfReturned()
    {
        returned?.ForEach(gradient => gradient?.Dispose());
        returned = null;
    }

    /// <inheritdoc/>
    public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
    {
        var (x, scale) = ((Tensor)vars[0], (Tensor?)vars[1]);
        var (batch, segments, n, heads, group, width) = QueryShape.Of(x);
        var sigma = empty([batch * segments * heads, group * n, width], x.dtype, CPU);
        if (x.dtype == ScalarType.Float64)
        {
            Forward<double>(x, scale, sigma);
        }
        else
        {
            Forward<float>(x, scale, sigma);
        }

        ctx.set_materialize_grads(false); // TorchSharp would make zeros like an output that may be disposed of by then
        ctx.save_for_backward([x, scale!, sigma]);
        return sigma;
    }

    /// <inheritdoc/>
    public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
    {
        using var scope = NewDisposeScope();
        using var given = grad_output; // made for this call
        DisposeOfReturned();
        if (given.IsInvalid)
        {
            return [null!, null!]; // no gradient arrives
        }

        var saved = ctx.get_saved_variables();
        var (x, scale, sigma) = (saved[0], (Tensor?)saved[1], saved[2]);
        returned = is_grad_enabled() ? Differentiable(x, scale, given) : Gradients(x, scale, sigma, given.contiguous());
        returned.ForEach(gradient => gradient?.DetachFromDisposeScope());
        return returned;
    }

    private static List<Tensor> Gradients(Tensor x, Tensor? scale, Tensor sigma, Tensor g)
    {
        var (ofX, ofScale) = (empty_like(x), scale is null ? null : zeros_like(scale));
        if (x.dtype == ScalarType.Float64)
        {
            Backward<double>(x, scale, new(sigma, g), new(ofX, ofScale));
        }
        else
        {
            Backward<float>(x, scale, new(sigma, g), new(ofX, ofScale));
        }

        return [ofX, ofScale!];
    }

    /// <summary>The gradients with a graph of their own, by the operators.</summary>
    private static List<Tensor> Differentiable(Tensor x, Tensor? scale, Tensor g)
    {
        var sigma = FeatureMap.ApplyToHeads(x, x.dtype, scale is null ? null : heads => NormScales.Scaled(heads, scale));
        var gradients = autograd.grad([sigma], scale is null ? [x] : [x, scale], [g], retain_graph: true, create_graph: true);
        return [gradients[0], scale is null ? null! : gradients[1]];
    }

    private static void Forward<T>(Tensor x, Tensor? scale, Tensor sigma)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var at = Places.Of<T>(x);
        HostVector.ForEach(at.Heads, (first, end) =>
        {
            Span<Vector<T>> sources = HostVector.Of<T>(x), targets = HostVector.Of<T>(sigma);
            Span<T> scales = scale is null ? [] : HostVector.Elements<T>(scale);
            for (var p = first; p < end; p++)
            {
                for (var t = 0; t < at.Tokens; t++)
                {
                    Span<Vector<T>> source = sources.Slice(at.Token(p, t), at.Length), target = targets.Slice(at.Row(p, t), at.Length);
                    var factor = new Vector<T>(scales.IsEmpty ? T.One : scales[p % at.HeadsOfToken] * HostNorm<T>.InverseRms(source));
                    for (var i = 0; i < target.Length; i++)
                    {
                        target[i] = HostVector.Sigma(source[i] * factor);
                    }
                }
            }
        });
    }

    /// <summary>What was saved of the forward pass, and the gradient of it, (B*S*G, R*n, K)</summary>
    private sealed record Given(Tensor Sigma, Tensor Gradient);

    /// <summary>Where the gradients of x and s are written; that of s holds 0 before.</summary>
    private sealed record Written(Tensor OfX, Tensor? OfScale);

    private static void Backward<T>(Tensor x, Tensor? scale, Given given, Written written)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var at = Places.Of<T>(x);
        var ofScales = new T[at.Heads];
        HostVector.ForEach(at.Heads, (first, end) =>
        {
            Span<Vector<T>> sources = HostVector.Of<T>(x), targets = HostVector.Of<T>(written.OfX);
            Span<Vector<T>> sigmas = HostVector.Of<T>(given.Sigma), gradients = HostVector.Of<T>(given.Gradient);
            Span<T> scales = scale is null ? [] : HostVector.Elements<T>(scale);
            var inverseWidth = T.One / T.CreateChecked(at.Length * Vector<T>.Count);
            for (var p = first; p < end; p++)
            {
                for (var t = 0; t < at.Tokens; t++)
                {
                    Span<Vector<T>> source = sources.Slice(at.Token(p, t), at.Length), target = targets.Slice(at.Token(p, t), at.Length);
                    Span<Vector<T>> sigma = sigmas.Slice(at.Row(p, t), at.Length), g = gradients.Slice(at.Row(p, t), at.Length);
                    var products = Vector<T>.Zero;
                    for (var i = 0; i < target.Length; i++)
                    {
                        var slope = Vector.ConditionalSelect(Vector.LessThan(sigma[i], Vector<T>.One), sigma[i], Vector<T>.One); // that of ELU is 1 for NaN too
                        var h = g[i] * slope;
                        target[i] = h;
                        products += h * source[i];
                    }

                    if (scales.IsEmpty)
                    {
                        continue;
                    }

                    var r = HostNorm<T>.InverseRms(source);
                    var product = Vector.Sum(products);
                    ofScales[p] += r * product;
                    Vector<T> direct = new(scales[p % at.HeadsOfToken] * r), along = new(r * r * inverseWidth * product);
                    for (var i = 0; i < target.Length; i++)
                    {
                        target[i] = direct * (target[i] - (along * source[i]));
                    }
                }
            }
        });
        if (written.OfScale is not null)
        {
            var total = HostVector.Elements<T>(written.OfScale);
            for (var p = 0; p < ofScales.Length; p++)
            {
                total[p % at.HeadsOfToken] += ofScales[p];
            }
        }
    }

    /// <summary>Where the vectors of head p of B*S*G*R, token t of n lie.</summary>
    /// <param name="Heads">B*S*G*R</param>
    /// <param name="HeadsOfToken">G*R</param>
    /// <param name="Tokens">n</param>
    /// <param name="Length">Vectors of a head.</param>
    private readonly record struct Places(int Heads, int HeadsOfToken, int Tokens, int Length)
    {
        public static Places Of<T>(Tensor x)
        {
            var (batch, segments, n, heads, group, width) = QueryShape.Of(x);
            return new((int)(batch * segments * heads * group), (int)(heads * group), (int)n, (int)width / Vector<T>.Count);
        }

        /// <summary>In (B, S, n, G, R, K).</summary>
        public int Token(int p, int t) => ((((p / HeadsOfToken * Tokens) + t) * HeadsOfToken) + (p % HeadsOfToken)) * Length;

        /// <summary>In (B*S*G, R*n, K).</summary>
        public int Row(int p, int t) => ((p * Tokens) + t) * Length;
    }
}
