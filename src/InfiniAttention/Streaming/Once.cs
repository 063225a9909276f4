using System.Collections;

namespace InfiniAttention;

/// <summary>A sequence that can be enumerated once: a second time it would read the stream's input again.</summary>
internal sealed class Once<T>(IEnumerable<T> items) : IEnumerable<T>
{
    private int isTaken;

    public IEnumerator<T> GetEnumerator() => Interlocked.Exchange(ref isTaken, 1) == 0
        ? items.GetEnumerator()
        : throw new InvalidOperationException("The windows of a stream are enumerated a second time; the stream has read them already. Call Stream again for further input.");

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
