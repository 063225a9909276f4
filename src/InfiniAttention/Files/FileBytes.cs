using System.Security.Cryptography;

namespace InfiniAttention;

/// <summary>All bytes of a stream, in chunks, because no array holds more than 2 GiB and a saved stream may.</summary>
internal sealed class FileBytes
{
    public const int ChunkBytes = 1 << 26;

    private readonly List<byte[]> chunks = []; // all of ChunkBytes but the last

    private FileBytes()
    {
    }

    public long Length => chunks.Sum(chunk => (long)chunk.Length);

    public static FileBytes Read(Stream stream)
    {
        var file = new FileBytes();
        var buffer = new byte[stream.CanSeek ? Math.Clamp(stream.Length - stream.Position + 1, 1, ChunkBytes) : ChunkBytes];
        int count;
        do
        {
            count = stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);
            file.chunks.Add(buffer[..count]);
        }
        while (count == ChunkBytes);

        return file;
    }

    /// <summary>Copies <paramref name="count"/> bytes from <paramref name="start"/> on.</summary>
    public byte[] Copy(long start, int count)
    {
        var copy = new byte[count];
        for (var done = 0; done < count;)
        {
            var (chunk, offset) = ((int)((start + done) / ChunkBytes), (int)((start + done) % ChunkBytes));
            var length = Math.Min(count - done, chunks[chunk].Length - offset);
            chunks[chunk].AsSpan(offset, length).CopyTo(copy.AsSpan(done));
            done += length;
        }

        return copy;
    }

    /// <summary>The SHA-256, in upper-case hexadecimal digits, of the file with its first bytes replaced by the given ones.</summary>
    public string ChecksumAfter(byte[] beginning)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(beginning);
        var skipped = beginning.Length;
        foreach (var chunk in chunks)
        {
            var skip = Math.Min(skipped, chunk.Length);
            hash.AppendData(chunk.AsSpan(skip));
            skipped -= skip;
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
