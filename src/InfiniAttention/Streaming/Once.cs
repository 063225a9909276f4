using System.Collections;

namespace InfiniAttention;

/// <summary>A sequence that can be enumerated only once: a second enumeration would feed the input to the stream again.</summary>
internal sealed class Once<T>(IEnumerable<T> items) : IEnumerable<T>
{
    private int isTaken;

    public IEnumerator<T> GetEnumerator() => Interlocked.Exchange(ref isTaken, 1) == 0
        ? items.GetEnumerator()
        : throw new InvalidOperationException("The windows of a stream were enumerated a second time; the stream has already read them. Call Stream again for further input.");

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
