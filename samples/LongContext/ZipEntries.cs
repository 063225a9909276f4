using System.IO.Compression;

namespace LongContext;

/// <summary>What checkpoints read of their zip files.</summary>
internal static class ZipEntries
{
    /// <summary>An entry, to be read from its beginning to its end.</summary>
    /// <exception cref="InvalidDataException">The file has no such entry.</exception>
    public static Stream Open(ZipArchive zip, string name) => (zip.GetEntry(name) ?? throw new InvalidDataException($"it holds no '{name}'.")).Open();

    /// <summary>The bytes of an entry.</summary>
    /// <exception cref="InvalidDataException">The file has no such entry.</exception>
    public static byte[] Content(ZipArchive zip, string name)
    {
        using var content = new MemoryStream();
        using var stream = Open(zip, name);
        stream.CopyTo(content);
        return content.ToArray();
    }
}
