using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace TorchSharp.Utils;

/// <summary>A dictionary that keeps the order in which its keys were first added.</summary>
public class OrderedDict<TKey, TValue> : IEnumerable<(TKey, TValue)> where TKey : notnull
{
    private readonly List<(TKey, TValue)> entries = [];
    private readonly Dictionary<TKey, TValue> byKey = [];

    public int Count => byKey.Count;

    public IEnumerable<TKey> keys() => entries.Select(entry => entry.Item1);

    public IEnumerable<TValue> values() => entries.Select(entry => entry.Item2);

    public TValue this[TKey key] {
        get => byKey[key];
        set {
            var index = entries.FindIndex(entry => entry.Item1.Equals(key));
            if (index < 0) entries.Add((key, value));
            else entries[index] = (key, value);
            byKey[key] = value;
        }
    }

    public void Add(TKey key, TValue value)
    {
        byKey.Add(key, value);
        entries.Add((key, value));
    }

    public bool Remove(TKey key)
    {
        entries.RemoveAll(entry => entry.Item1.Equals(key));
        return byKey.Remove(key);
    }

    public bool ContainsKey(TKey key) => byKey.ContainsKey(key);

    public bool TryGetValue(TKey key, [MaybeNullWhen(false)] out TValue value) => byKey.TryGetValue(key, out value);

    internal bool TryAdd(TKey key, TValue value)
    {
        if (ContainsKey(key)) return false;
        Add(key, value);
        return true;
    }

    public void clear()
    {
        entries.Clear();
        byKey.Clear();
    }

    public IEnumerator<(TKey, TValue)> GetEnumerator() => entries.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
