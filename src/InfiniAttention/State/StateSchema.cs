using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The tensors of a saved state: one table that is used to write, check and read it.</summary>
/// <remarks>B batch, G key/value heads, K key width, V value width, L tokens of the open segment, N tokens of the segment before.</remarks>
internal static class StateSchema
{
    private enum Presence
    {
        Required,
        Allowed,
        Absent,
    }

    private sealed record Field(string Name, Func<StateShape, Presence> Presence, Func<StateShape, ScalarType> Type, Func<StateShape, long[]> Shape, Func<MemoryState, Tensor?> Of);

    private static readonly Field[] Fields =
    [
        new("memory", _ => Presence.Required, s => s.StateType, s => [s.Batch, s.Heads, s.KeyWidth, s.ValueWidth], state => state.Memory),
        new("normalizer", _ => Presence.Required, s => s.StateType, s => [s.Batch, s.Heads, s.KeyWidth], state => state.Normalizer),
        new("keys", s => If(s.Length > 0), s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.KeyWidth], state => state.Open?.Tokens.Keys),
        new("local_keys", s => If(s.Length > 0 && s.HasLocalKeys), s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.KeyWidth], state => state.Open?.Tokens.OtherLocalKeys),
        new("passed_keys", s => If(s.Length > 0 && s.HasPassedKeys), s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.KeyWidth], state => state.Open?.Tokens.OtherPassedKeys),
        new("values", s => If(s.Length > 0), s => s.Type, s => [s.Batch, 1, s.Length, s.Heads, s.ValueWidth], state => state.Open?.Tokens.Values),
        new("padding", s => Allow(s.Length > 0), _ => ScalarType.Bool, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Padding),
        new("documents", s => Allow(s.Length > 0), _ => ScalarType.Int64, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Documents),
        new("weights", s => Allow(s.Length > 0), s => s.StateType, s => [s.Batch, 1, s.Length], state => state.Open?.Marks.Weights),
        new("earlier_keys", s => If(s.EarlierLength > 0), s => s.Type, s => [s.Batch, 1, s.EarlierLength, s.Heads, s.KeyWidth], state => state.Earlier?.Keys),
        new("earlier_values", s => If(s.EarlierLength > 0), s => s.Type, s => [s.Batch, 1, s.EarlierLength, s.Heads, s.ValueWidth], state => state.Earlier?.Values),
        new("earlier_hidden", s => Allow(s.EarlierLength > 0), _ => ScalarType.Bool, s => [s.Batch, 1, s.EarlierLength], state => state.Earlier?.Hidden),
    ];

    /// <summary>The largest position, so far below the largest long that no stream can overflow it.</summary>
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
            throw new InvalidDataException($"The file is at position {shape.Position}; it must be at least 0 and at most {MaximumPosition}.");
        }

        foreach (var field in Fields)
        {
            Check(file, prefix, field, shape);
        }

        if (shape.Batch < 1)
        {
            throw new InvalidDataException($"The file holds {shape.Batch} rows in {prefix}memory; there must be at least one.");
        }

        // Everything is read and checked before a state owns any of it.
        using var scope = NewDisposeScope();
        var tensors = Fields.Where(field => file.Entries.ContainsKey(prefix + field.Name)).ToDictionary(field => field.Name, field => file.Tensor(prefix + field.Name).to(device));
        CheckNumbers();
        var (m, z) = (tensors["memory"], tensors["normalizer"]);
        var isEmpty = Describe.AllTrue(m.eq(Scalars.Zero)) && Describe.AllTrue(z.eq(Scalars.Zero));
        var open = shape.Length == 0 ? null : new OpenSegment(
            new(new(tensors["keys"], tensors["values"], SegmentMarks.None) { OtherLocalKeys = Tensor("local_keys"), OtherPassedKeys = Tensor("passed_keys") }),
            shape.Length, new(Tensor("padding"), Tensor("documents"), Tensor("weights")));
        var earlier = shape.EarlierLength == 0 ? null : new EarlierSegment(tensors["earlier_keys"], tensors["earlier_values"], Tensor("earlier_hidden"));
        return new(new MemoryMatrix(m, z, isEmpty), open, earlier, shape.Position);

        Tensor? Tensor(string name) => tensors.GetValueOrDefault(name);

        void CheckNumbers()
        {
            Require("normalizer", CanBeNormalizer);

            // Document starts so far: the first token counts 0 or 1, and each later token 0 or 1 more than the token before.
            Require("documents", documents =>
            {
                var starts = cat([documents.narrow(-1, 0, 1), documents.diff(1, -1)], -1);
                return starts.ge(Scalars.Zero).logical_and(starts.le(Scalars.One));
            });
            Require("weights", weights => weights.ge(Scalars.Zero).logical_and(weights.lt(Scalars.Infinity)));
        }

        void Require(string name, Func<Tensor, Tensor> isValid)
        {
            if (Tensor(name) is { } tensor && !Describe.AllTrue(isValid(tensor)))
            {
                throw new InvalidDataException($"The file holds impossible numbers in {prefix}{name}.");
            }
        }
    }

    /// <summary>Which elements z can have: it is a sum of positive numbers, and may be NaN if the stream's input was.</summary>
    public static Tensor CanBeNormalizer(Tensor z) => z.ge(Scalars.Zero).logical_or(z.isnan());

    private static Presence If(bool isThere) => isThere ? Presence.Required : Presence.Absent;

    private static Presence Allow(bool mayBeThere) => mayBeThere ? Presence.Allowed : Presence.Absent;

    private static void Check(SafetensorsFile file, string prefix, Field field, StateShape shape)
    {
        var name = prefix + field.Name;
        var presence = field.Presence(shape);
        var mayBe = presence != Presence.Absent;
        var found = file.Entries.GetValueOrDefault(name);
        if (found is null ? presence == Presence.Required : !mayBe || found.Type != field.Type(shape) || !found.Shape.SequenceEqual(field.Shape(shape)))
        {
            var what = found is null ? "nothing" : $"{found.Type} of shape ({string.Join(", ", found.Shape)})";
            var wanted = mayBe ? $"{field.Type(shape)} of shape ({string.Join(", ", field.Shape(shape))})" : "nothing";
            throw new InvalidDataException($"The file holds {what} as {name}; at position {shape.Position} it must be {wanted}.");
        }
    }
}

/// <summary>The sizes and the type of a state.</summary>
/// <param name="Position">Tokens consumed.</param>
/// <param name="Length">Tokens of the open segment.</param>
/// <param name="Type">The layer's type.</param>
internal sealed record StateShape(long Position, long Length, ScalarType Type)
{
    /// <summary>Whether the local attention uses other keys than the memory.</summary>
    public bool HasLocalKeys { get; init; }

    /// <summary>Whether the next segment uses other keys again.</summary>
    public bool HasPassedKeys { get; init; }

    /// <summary>Tokens of the segment before that is in view; 0 for none.</summary>
    public long EarlierLength { get; init; }

    public long Batch { get; init; }

    public long Heads { get; init; }

    public long KeyWidth { get; init; }

    public long ValueWidth { get; init; }

    public ScalarType StateType => MemoryState.TypeFor(Type);
}
