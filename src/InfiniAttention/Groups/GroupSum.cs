using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Sums of many tensors over the ranks of a group, in few exchanges.</summary>
internal static class GroupSum
{
    /// <summary>The most elements that are exchanged at once, unless a single tensor has more.</summary>
    private const long MostElements = 1 << 24;

    /// <summary>The sums of tensors that some ranks may not have, in at least float32; null where no rank has one.</summary>
    /// <param name="group">The group.</param>
    /// <param name="tensors">Those of this rank; null counts as 0.</param>
    /// <param name="like">Tensors of their shapes, as many and in the same order on every rank.</param>
    /// <returns>New tensors in the caller's dispose scope.</returns>
    public static Tensor?[] Of(ISequenceGroup group, IReadOnlyList<Tensor?> tensors, IReadOnlyList<Tensor> like)
    {
        var all = Agreement.Gather(group, [.. tensors.Select(tensor => tensor is null ? 0.0 : 1.0)]);
        var sums = new Tensor?[like.Count];
        var wanted = Enumerable.Range(0, like.Count).Where(i => Array.Exists(all, rank => rank[i] > 0));
        foreach (var part in wanted.GroupBy(i => (Type(like[i]), like[i].device_type, like[i].device_index)).SelectMany(ofType => Parts(ofType, like)))
        {
            using var scope = NewDisposeScope();
            var flat = cat([.. part.Select(i => tensors[i] is { } tensor ? Describe.As(tensor.detach(), Type(like[i])).reshape(-1) : zeros([like[i].numel()], Type(like[i]), like[i].device))]);
            group.Sum(flat);
            var start = 0L;
            foreach (var i in part)
            {
                var count = like[i].numel();
                sums[i] = flat.narrow(0, start, count).reshape(Describe.Sizes(like[i])).clone().MoveToOuterDisposeScope();
                start += count;
            }
        }

        return sums;

        static ScalarType Type(Tensor tensor) => tensor.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
    }

    private static List<List<int>> Parts(IEnumerable<int> indices, IReadOnlyList<Tensor> like)
    {
        var parts = new List<List<int>>();
        var elements = MostElements;
        foreach (var i in indices)
        {
            if (elements + like[i].numel() > MostElements)
            {
                parts.Add([]);
                elements = 0;
            }

            parts[^1].Add(i);
            elements += like[i].numel();
        }

        return parts;
    }
}
