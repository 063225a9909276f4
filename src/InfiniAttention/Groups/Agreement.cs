using System.Security.Cryptography;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What each rank is about to do, told to all before anything is computed, so that all refuse what one of them must refuse.</summary>
internal static class Agreement
{
    /// <summary>The numbers of every rank, (rank, number); exact for integers up to 2^53.</summary>
    public static double[][] Gather(ISequenceGroup group, params double[] numbers)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var table = zeros([group.Size, numbers.Length], ScalarType.Float64, CPU);
        numbers.CopyTo(HostVector.Elements<double>(table).Slice(group.Rank * numbers.Length, numbers.Length));
        group.Sum(table);
        var all = HostVector.Elements<double>(table).ToArray();
        return [.. Enumerable.Range(0, group.Size).Select(rank => all[(rank * numbers.Length)..((rank + 1) * numbers.Length)])];
    }

    /// <summary>Runs a check of this rank's arguments, and throws on every rank if it fails on one.</summary>
    public static void Check(ISequenceGroup group, Action check)
    {
        Exception? own = null;
        try
        {
            check();
        }
        catch (Exception refused) when (refused is ArgumentException or InvalidOperationException)
        {
            own = refused;
        }

        var failed = Array.FindIndex(Gather(group, own is null ? 0 : 1), rank => rank[0] > 0);
        if (own is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(own);
        }

        if (failed >= 0)
        {
            throw new InvalidOperationException($"Rank {failed} of the group refused its arguments, so this rank stops too; its own error says why.");
        }
    }

    /// <summary>Throws on every rank unless all have the same numbers.</summary>
    /// <param name="group">The group.</param>
    /// <param name="what">What the numbers describe, for the message.</param>
    /// <param name="numbers">The numbers of this rank.</param>
    public static void CheckSame(ISequenceGroup group, string what, params double[] numbers)
    {
        var all = Gather(group, numbers);
        if (Array.FindIndex(all, rank => !rank.SequenceEqual(all[0])) is var other and >= 0)
        {
            throw new InvalidOperationException($"Rank {other} of the group has other {what} than rank 0; every rank must be given the same.");
        }
    }

    /// <summary>A number that differs, almost certainly, for tensors that differ in type, shape or one of their first million elements; 0 for null.</summary>
    public static double Fingerprint(Tensor? tensor)
    {
        const long Elements = 1 << 20;
        if (tensor is null)
        {
            return 0;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var flat = tensor.detach().reshape(-1);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes($"{tensor.dtype} {Describe.Shape(tensor)}"));
        hash.AppendData(flat.narrow(0, 0, Math.Min(flat.size(0), Elements)).cpu().contiguous().bytes);
        return BitConverter.ToUInt32(hash.GetHashAndReset()) + 1.0;
    }
}
