using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What a saved state consists of: one table, by which it is written, checked and read.</summary>
/// <remarks>B batch, G key/value heads, K key width, V value width, L tokens of the open segment.</remarks>
internal static class StateSchema
{
    private enum Needed
    {
        Always,
        IfOpen,
        IfOpenAndRotary,
        Never,
    }

    private sealed record Field(string Name, Needed Needed, Func<StateShape, ScalarType> Type, Func<StateShape, long[]> Shape, Func<MemoryState, Tensor?> Of);

    private static readonly Field[] Fields =
    [
        new("memory", Needed.Always, s => s.StateType, s => [s.Batch, s.Heads, s.KeyWidth, s.ValueWidth], state => state.Memory),
        new("normalizer", Needed.Always, s => s.StateType, s => [s.Batch, s.Heads, s.KeyWidth], state => state.Normalizer),
        new("keys", Needed.IfOpen, s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.KeyWidth], state => state.Open?.Tokens.Keys),
        new("rotated_keys", Needed.IfOpenAndRotary, s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.KeyWidth], state => state.Open?.Tokens.RotatedKeys),
        new("values", Needed.IfOpen, s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.ValueWidth], state => state.Open?.Tokens.Values),
        new("padding", Needed.Never, _ => ScalarType.Bool, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Padding),
        new("documents", Needed.Never, _ => ScalarType.Int64, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Documents),
        new("weights", Needed.Never, s => s.StateType, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Weights),
    ];

    /// <summary>The largest position: so far from the end of its type that no stream gets there.</summary>
    public const long MaximumPosition = 1L << 62;

    /// <summary>The tensors of a state, with their names.</summary>
    public static IEnumerable<(string Name, Tensor Tensor)> Tensors(MemoryState state, string prefix) =>
        Fields.Select(field => (prefix + field.Name, Tensor: field.Of(state)!)).Where(entry => entry.Tensor is not null);

    /// <summary>The names that a state's tensors may have.</summary>
    public static IEnumerable<string> Names(string prefix) => Fields.Select(field => prefix + field.Name);

    /// <summary>Reads the state of the given shape.</summary>
    /// <exception cref="InvalidDataException">A tensor is missing, left over, of another type or shape, or holds numbers that it cannot hold.</exception>
    public static MemoryState Read(SafetensorsFile file, string prefix, StateShape shape, Device device)
    {
        if (shape.Position is < 0 or > MaximumPosition)
        {
            throw new InvalidDataException($"The file stands at position {shape.Position}; a position is at least 0 and at most {MaximumPosition}.");
        }

        foreach (var field in Fields)
        {
            Check(file, prefix, field, shape);
        }

        if (shape.Batch < 1)
        {
            throw new InvalidDataException($"The file holds {shape.Batch} rows as {prefix}memory; it must be at least one.");
        }

        using var scope = NewDisposeScope();
        var open = shape.Length == 0 ? null : new OpenSegment(
            new(Tensor("keys")!, Tensor("rotated_keys"), Tensor("values")!), shape.Length, new(Tensor("padding"), Documents(), Weights()));
        return new(new MemoryMatrix(Tensor("memory")!, Normalizer()), open, shape.Position);

        Tensor? Tensor(string name) => file.Entries.ContainsKey(prefix + name) ? file.Tensor(prefix + name).to(device) : null;

        // A sum of numbers that are positive, if they are numbers.
        Tensor Normalizer()
        {
            var z = Tensor("normalizer")!;
            return Valid(z, "normalizer", z.ge(Scalars.Zero).logical_or(z.isnan()));
        }

        // Counts of the starts so far: from 0 or 1 on, and never more than one more than the token before.
        Tensor? Documents()
        {
            if (Tensor("documents") is not { } documents)
            {
                return null;
            }

            var starts = cat([documents.narrow(-1, 0, 1), documents.diff(1, -1)], -1);
            return Valid(documents, "documents", starts.ge(Scalars.Zero).logical_and(starts.le(Scalars.One)));
        }

        Tensor? Weights() => Tensor("weights") is { } weights ? Valid(weights, "weights", weights.ge(Scalars.Zero).logical_and(weights.lt(Scalars.Infinity))) : null;

        Tensor Valid(Tensor tensor, string name, Tensor isValid) => Describe.AllTrue(isValid)
            ? tensor
            : throw new InvalidDataException($"The file holds numbers as {prefix}{name} that cannot be there.");
    }

    private static void Check(SafetensorsFile file, string prefix, Field field, StateShape shape)
    {
        var name = prefix + field.Name;
        var isNeeded = field.Needed switch
        {
            Needed.Always => true,
            Needed.IfOpen => shape.Length > 0,
            Needed.IfOpenAndRotary => shape.Length > 0 && shape.IsRotary,
            _ => false,
        };
        var mayBe = isNeeded || (field.Needed == Needed.Never && shape.Length > 0);
        var found = file.Entries.GetValueOrDefault(name);
        if (found is null ? isNeeded : !mayBe || found.Type != field.Type(shape) || !found.Shape.SequenceEqual(field.Shape(shape)))
        {
            var what = found is null ? "nothing" : $"{found.Type} of shape ({string.Join(", ", found.Shape)})";
            var wanted = mayBe ? $"{field.Type(shape)} of shape ({string.Join(", ", field.Shape(shape))})" : "nothing";
            throw new InvalidDataException($"The file holds {what} as {name}; at position {shape.Position} it must be {wanted}.");
        }
    }
}

/// <summary>The sizes and types of a state.</summary>
/// <param name="Position">Tokens consumed.</param>
/// <param name="Length">Tokens of the open segment.</param>
/// <param name="Type">The layer's type.</param>
/// <param name="IsRotary">Whether the local attention sees keys of its own.</param>
internal sealed record StateShape(long Position, long Length, ScalarType Type, bool IsRotary)
{
    public long Batch { get; init; }

    public long Heads { get; init; }

    public long KeyWidth { get; init; }

    public long ValueWidth { get; init; }

    public ScalarType StateType => MemoryState.TypeFor(Type);
}
