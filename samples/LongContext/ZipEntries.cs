using System.IO.Compression;

namespace LongContext;

/// <summary>What checkpoints read of their zip files.</summary>
internal static class ZipEntries
{
    /// <summary>The bytes of an entry.</summary>
    /// <exception cref="InvalidDataException">The file has no such entry.</exception>
    public static byte[] Content(ZipArchive zip, string name)
    {
        var entry = zip.GetEntry(name) ?? throw new InvalidDataException($"it holds no '{name}'.");
        using var content = new MemoryStream();
        using var stream = entry.Open();
        stream.CopyTo(content);
        return content.ToArray();
    }
}
