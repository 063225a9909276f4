using System.Text.Json;

namespace LongContext.Models;

/// <summary>The entries of a configuration, each of which must be read or named as one that changes no output: an unknown entry is refused.</summary>
/// <param name="entries">A JSON object.</param>
/// <param name="place">Where it is, for messages.</param>
internal sealed class ConfigEntries(JsonElement entries, string place)
{
    private readonly HashSet<string> known = [];

    public bool Has(string name)
    {
        known.Add(name);
        return entries.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null;
    }

    /// <summary>Whether there is no entry of that name, not even one that is null.</summary>
    public bool Lacks(string name)
    {
        known.Add(name);
        return !entries.TryGetProperty(name, out _);
    }

    public long Integer(string name, long? byDefault = null) => Value(name, byDefault, value => value.GetInt64());

    public double Number(string name, double? byDefault = null) => Value(name, byDefault, value => value.GetDouble());

    public double? NumberOrNull(string name) => Has(name) ? Number(name) : null;

    public bool Flag(string name, bool byDefault) => Value<bool>(name, byDefault, value => value.GetBoolean());

    public string Text(string name, string? byDefault = null) =>
        Has(name) || byDefault is null ? Read(name, value => value.GetString() ?? throw new InvalidOperationException()) : byDefault;

    public double[] Numbers(string name) => Read<double[]>(name, value => [.. value.EnumerateArray().Select(item => item.GetDouble())]);

    public string[] Texts(string name) => Read<string[]>(name, value => [.. value.EnumerateArray().Select(item => item.GetString() ?? "")]);

    /// <summary>One integer or a list of them; none if the entry is missing.</summary>
    public long[] Integers(string name) => !Has(name) ? []
        : Read<long[]>(name, value => value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray().Select(item => item.GetInt64())] : [value.GetInt64()]);

    public ConfigEntries Object(string name) =>
        new(Read(name, value => value.ValueKind == JsonValueKind.Object ? value : throw new InvalidOperationException()), $"{place}, {name},");

    /// <summary>Refuses an entry that is present with another value than the only one that is supported.</summary>
    public void Require(string name, bool value)
    {
        if (Flag(name, value) != value)
        {
            throw Refuse(name, $"only {(value ? "true" : "false")} is supported");
        }
    }

    /// <summary>Entries that change no output: names, numbers of special tokens, what concerns training alone.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            known.Add(name);
        }
    }

    /// <summary>Throws if there is an entry that was neither read nor ignored.</summary>
    public void Finish()
    {
        if (entries.EnumerateObject().FirstOrDefault(entry => entry.Value.ValueKind != JsonValueKind.Null && !known.Contains(entry.Name)) is { Value.ValueKind: not JsonValueKind.Undefined } unknown)
        {
            throw Refuse(unknown.Name, "this program does not know what it means");
        }
    }

    public InputException Refuse(string name, string reason) =>
        new($"{place} has the entry '{name}': {(entries.TryGetProperty(name, out var value) ? Shortened(value.GetRawText()) : "none")}; {reason}.");

    private static string Shortened(string text) => text.Length > 80 ? text[..80] + "…" : text;

    private T Value<T>(string name, T? byDefault, Func<JsonElement, T> read)
        where T : struct => Has(name) || byDefault is null ? Read(name, read) : byDefault.Value;

    private T Read<T>(string name, Func<JsonElement, T> read)
    {
        if (!Has(name))
        {
            throw new InputException($"{place} has no entry '{name}'.");
        }

        try
        {
            return read(entries.GetProperty(name));
        }
        catch (Exception error) when (error is InvalidOperationException or FormatException)
        {
            throw Refuse(name, "it is of another kind than expected");
        }
    }
}
