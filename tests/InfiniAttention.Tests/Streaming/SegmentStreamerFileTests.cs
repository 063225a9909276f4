using System.Security.Cryptography;
using System.Text;
using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Saved streams: complete, in the safetensors format, and refused if anything in them was changed.</summary>
public sealed class SegmentStreamerFileTests(ITestOutputHelper output) : IDisposable
{
    private static readonly LayerCase Case = new()
    {
        Length = 10,
        HeadsPerGroup = 2,
        Update = MemoryUpdate.Delta,
        Rotary = RotaryPairing.Halves,
        Padding = true,
        Documents = true,
        WriteWeights = true,
    };

    /// <summary>A stream so small that every change of its file can be tried.</summary>
    private static readonly LayerCase Small = new() { Batch = 1, Length = 3, Segment = 2, KeyValueHeads = 1, HeadDim = 1, ValueDim = 1, EmbedDim = 1 };

    private readonly DisposeScope scope = NewDisposeScope();

    public static TheoryData<string> OtherModels => ["one layer more", "keys", "values", "heads", "segment", "rule", "rotary", "type"];

    public void Dispose() => scope.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_loaded_stream_continues_like_the_saved_one(bool asFile)
    {
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        Tensor x = Case.Input().detach();
        using SegmentStreamer saved = new(model), loaded = new(model);
        _ = saved.Forward(x, Case.Info());
        _ = loaded.Forward(x.narrow(0, 0, 1)); // loading replaces this stream
        if (asFile)
        {
            string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
            saved.Save(path);
            saved.Save(path); // replaces the first
            loaded.Load(path);
            File.Delete(path);
        }
        else
        {
            loaded.Load(new MemoryStream(Save(saved)));
        }

        Assert.Equal(10, loaded.Position);
        Difference.Close(saved.Forward(x, Case.Info()), loaded.Forward(x, Case.Info()), 0, "continuation");
        Difference.Close(saved.Forward(x), loaded.Forward(x), 0, "further continuation");
    }

    [Fact]
    public void A_stream_that_has_not_begun_can_be_saved_and_loaded()
    {
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        Tensor x = Case.Input().detach();
        using SegmentStreamer fresh = new(model), other = new(model);
        _ = other.Forward(x);
        other.Load(new MemoryStream(Save(fresh)));
        Assert.Equal(0, other.Position);
        Difference.Close(model.call(x), other.Forward(x), 1e-12, "output from the start");
    }

    [Fact]
    public void The_file_is_safetensors()
    {
        byte[] bytes = Save(Begun(new LayerStack(Case, 2), Case));
        var file = new SafeTensors(bytes);
        long header = BitConverter.ToInt64(bytes);
        Assert.Equal(0, header % 8);
        Assert.Equal((byte)'{', bytes[8]);
        long expectedStart = 0;
        foreach ((string name, var entry) in file.Entries.OrderBy(e => e.Value.GetProperty("data_offsets")[0].GetInt64()))
        {
            Assert.Equal(expectedStart, entry.GetProperty("data_offsets")[0].GetInt64()); // no holes and no overlap
            expectedStart = entry.GetProperty("data_offsets")[1].GetInt64();
            Assert.Equal(file.Shape(name).Aggregate(1L, (a, b) => a * b), file.Numbers(name).Length);
        }

        Assert.Equal(bytes.Length - 8 - header, expectedStart);
        Assert.Equal([2, 2, 4, 4], file.Shape("0.memory"));
        Assert.Equal([2, 2, 4], file.Shape("1.normalizer"));
        Assert.Equal("10", file.Metadata["position"]);
    }

    [Fact]
    public void Every_single_byte_change_is_refused()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        byte[] bytes = Save(streamer);
        int tried = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            byte whole = bytes[i];
            for (int change = 1; change < 256; change++)
            {
                bytes[i] = (byte)(whole ^ change);
                IsRefused(streamer, bytes, $"byte {i} of {bytes.Length} changed from {whole} to {bytes[i]}");
                tried++;
            }

            bytes[i] = whole;
        }

        Assert.Equal(bytes, Save(streamer));
        streamer.Load(new MemoryStream(bytes));
        output.WriteLine($"{tried} changed files, all refused");
    }

    [Fact]
    public void Every_truncation_and_every_extension_is_refused()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        byte[] bytes = Save(streamer);
        for (int length = 0; length < bytes.Length; length++)
        {
            IsRefused(streamer, bytes[..length], $"{length} of {bytes.Length} bytes");
        }

        IsRefused(streamer, [.. bytes, 0], "a byte more");
        IsRefused(streamer, [.. bytes, .. bytes], "the file twice");
        Assert.Equal(bytes, Save(streamer));
        output.WriteLine($"{bytes.Length + 2} shortened or lengthened files tried and refused");
    }

    [Fact]
    public void A_newer_version_is_refused_and_named()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        string message = IsRefused(streamer, Forge(Save(streamer), "\"version\":\"1\"", "\"version\":\"2\""), "version 2");
        Assert.Contains("version 2", message, StringComparison.Ordinal);
        Assert.Contains("version 1", message, StringComparison.Ordinal);
    }

    /// <summary>Files that carry a valid checksum but do not hold what the layers need.</summary>
    [Theory]
    [InlineData("\"shape\":[1,1,1,1],", "\"shape\":[1,1,1,2],")]
    [InlineData("\"shape\":[1,1,1],", "\"shape\":[1,1,2],")]
    [InlineData("0.values", "0.valuez")]
    [InlineData("0.normalizer", "0.normaliser")]
    [InlineData("\"position\":\"3\"", "\"position\":\"4\"")]
    [InlineData("\"position\":\"3\"", "\"position\":\"x\"")]
    [InlineData("\"dtype\":\"F64\"", "\"dtype\":\"F32\"")]
    [InlineData("\"dtype\":\"F64\"", "\"dtype\":\"F99\"")]
    public void A_file_whose_header_does_not_fit_the_layers_is_refused(string original, string forged)
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        IsRefused(streamer, Forge(Save(streamer), original, forged), $"{forged} instead of {original}");
    }

    [Theory]
    [MemberData(nameof(OtherModels))]
    public void A_stream_of_another_model_is_refused(string what)
    {
        LayerCase other = what switch
        {
            "keys" => Case with { HeadDim = 6 },
            "values" => Case with { ValueDim = 3 },
            "heads" => Case with { KeyValueHeads = 1, HeadsPerGroup = 4 },
            "segment" => Case with { Segment = 5 },
            "rule" => Case with { Update = MemoryUpdate.Linear },
            "rotary" => Case with { Rotary = RotaryPairing.Interleaved },
            _ => Case,
        };
        using SegmentStreamer streamer = Begun(new LayerStack(Case, 2), Case);
        var model = new LayerStack(other, what == "one layer more" ? 3 : 2);
        byte[] foreign;
        if (what == "type")
        {
            model.to(ScalarType.Float32);
            using var mode = no_grad();
            using var narrow = new SegmentStreamer(model);
            _ = narrow.Forward(other.Input().to_type(ScalarType.Float32));
            foreign = Save(narrow);
        }
        else
        {
            foreign = Save(Begun(model, other));
        }

        string message = IsRefused(streamer, foreign, what);
        Assert.Contains("other Infini-attention layers", message, StringComparison.Ordinal);
    }

    /// <summary>Numbers that no stream can hold, in a file with a valid checksum. (NaN in a memory is valid.)</summary>
    [Theory]
    [InlineData("0.normalizer", 7, 0xBF)]
    [InlineData("0.padding", 0, 2)]
    [InlineData("0.documents", 0, 2)]
    [InlineData("0.documents", 7, 0xFF)]
    [InlineData("0.weights", 7, 0xBF)]
    [InlineData("0.weights", 6, 0xFF)]
    public void A_file_with_impossible_numbers_is_refused(string name, int index, byte value)
    {
        LayerCase one = Small with { Padding = true, Documents = true, WriteWeights = true };
        using SegmentStreamer streamer = Begun(new LayerStack(one, 1), one);
        byte[] bytes = Save(streamer);
        var offsets = new SafeTensors(bytes).Entries[name].GetProperty("data_offsets");
        byte[] forged = [.. bytes];
        forged[8 + BitConverter.ToInt32(bytes) + offsets[0].GetInt32() + index] = value;
        if (name == "0.weights" && value == 0xFF)
        {
            forged[8 + BitConverter.ToInt32(bytes) + offsets[0].GetInt32() + 7] = 0x7F; // not a number
        }

        Assert.Contains(name, IsRefused(streamer, Signed(forged), $"{value} at byte {index} of {name}"), StringComparison.Ordinal);
        streamer.Load(new MemoryStream(Signed(bytes)));
    }

    [Theory]
    [InlineData("\"layers\":\"", "\"layers\":null,\"x\":\"")]
    [InlineData("\"0.memory\"", "\"\\ud800.memory\"")]
    [InlineData("\"shape\":[1,", "\"shape\":[0,")]
    [InlineData("\"data_offsets\":[8,16]", "\"data_offsets\":[0,8]")]
    public void A_malformed_header_is_refused(string original, string forged)
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        byte[] bytes = Save(streamer);
        int headerEnd = 8 + BitConverter.ToInt32(bytes);
        string header = Encoding.UTF8.GetString(bytes, 8, headerEnd - 8);
        Assert.Contains(original, header, StringComparison.Ordinal);
        byte[] changed = Encoding.UTF8.GetBytes(header.Replace(original, forged, StringComparison.Ordinal));
        byte[] data = forged.Contains("[0,", StringComparison.Ordinal) && original.Contains("shape", StringComparison.Ordinal) ? [] : bytes[headerEnd..];
        IsRefused(streamer, Signed([.. BitConverter.GetBytes((long)changed.Length), .. changed, .. data]), $"{forged} instead of {original}");
    }

    [Fact]
    public void A_checksum_that_is_not_a_string_is_refused()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Small, 1), Small);
        byte[] bytes = Save(streamer);
        int place = Encoding.UTF8.GetString(bytes, 0, 8 + BitConverter.ToInt32(bytes)).IndexOf("\"checksum\":", StringComparison.Ordinal) + 11;
        Encoding.ASCII.GetBytes("null".PadRight(66)).CopyTo(bytes, place);
        IsRefused(streamer, bytes, "no checksum");
    }

    /// <summary>The model was converted after the stream's last tokens; the file has the model's new type.</summary>
    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    public void A_stream_saved_after_its_model_was_converted_loads_again(int tokens)
    {
        using var mode = no_grad();
        LayerCase one = Case with { Length = tokens };
        var model = new LayerStack(one, 2);
        using SegmentStreamer streamer = Begun(model, one);
        model.to(ScalarType.BFloat16);
        using var loaded = new SegmentStreamer(model);
        loaded.Load(new MemoryStream(Save(streamer)));
        Tensor x = one.Input().detach().to(ScalarType.BFloat16);
        Difference.Close(streamer.Forward(x), loaded.Forward(x), 0, "continuation");
    }

    [Fact]
    public void A_refused_or_failed_call_leaves_no_file_and_no_tensor()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Case, 2), Case);
        string folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            Assert.Throws<DirectoryNotFoundException>(() => streamer.Save(Path.Combine(folder, "missing", "file")));
            Assert.Throws<FileNotFoundException>(() => streamer.Load(Path.Combine(folder, "missing")));
            string taken = Path.Combine(folder, "taken");
            Directory.CreateDirectory(Path.Combine(taken, "by a folder"));
            Assert.ThrowsAny<SystemException>(() => streamer.Save(taken));
            Assert.Equal([taken], Directory.GetFileSystemEntries(folder));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        byte[] bytes = Save(streamer);
        bytes[^1] ^= 1;
        Assert.Equal(0, LiveTensors.LeftBy(() => Assert.Throws<InvalidDataException>(() => streamer.Load(new MemoryStream(bytes)))));
    }

    [Fact]
    public void Saving_and_loading_leave_no_tensor_but_the_state()
    {
        using SegmentStreamer streamer = Begun(new LayerStack(Case, 2), Case);
        byte[] bytes = [];
        Assert.Equal(0, LiveTensors.LeftBy(() => bytes = Save(streamer)));
        streamer.Load(new MemoryStream(bytes));
        Assert.Equal(0, LiveTensors.LeftBy(() => streamer.Load(new MemoryStream(bytes))));
    }

    private static SegmentStreamer Begun(LayerStack model, LayerCase one)
    {
        using var mode = no_grad();
        var streamer = new SegmentStreamer(model);
        streamer.Forward(one.Input().detach(), one.Info()).Dispose();
        return streamer;
    }

    private static byte[] Save(SegmentStreamer streamer)
    {
        using var stream = new MemoryStream();
        streamer.Save(stream);
        return stream.ToArray();
    }

    private static string IsRefused(SegmentStreamer streamer, byte[] bytes, string what)
    {
        (long position, long size) = (streamer.Position, streamer.StateBytes);
        try
        {
            streamer.Load(new MemoryStream(bytes, writable: false));
        }
        catch (InvalidDataException error)
        {
            Assert.Equal((position, size), (streamer.Position, streamer.StateBytes));
            return error.Message;
        }
        catch (Exception error)
        {
            Assert.Fail($"{what}: refused with {error}");
        }

        Assert.Fail($"{what}: accepted");
        return "";
    }

    /// <summary>Replaces text in the header by text of the same length and updates the checksum, a SHA-256 in which its own digits count as zeros.</summary>
    private static byte[] Forge(byte[] bytes, string original, string forged)
    {
        int headerEnd = 8 + BitConverter.ToInt32(bytes);
        string checksum = new SafeTensors(bytes).Metadata["checksum"], zeros = new('0', checksum.Length);
        string header = Encoding.UTF8.GetString(bytes, 8, headerEnd - 8);
        Assert.Contains(original, header, StringComparison.Ordinal);
        Assert.Equal(original.Length, forged.Length);
        header = header.Replace(original, forged, StringComparison.Ordinal);
        byte[] File(string hash) => [.. bytes[..8], .. Encoding.UTF8.GetBytes(header.Replace(checksum, hash, StringComparison.Ordinal)), .. bytes[headerEnd..]];
        return File(Convert.ToHexString(SHA256.HashData(File(zeros))));
    }

    /// <summary>Updates the file's checksum.</summary>
    private static byte[] Signed(byte[] bytes)
    {
        int headerEnd = 8 + BitConverter.ToInt32(bytes);
        int place = Encoding.UTF8.GetString(bytes, 0, headerEnd).IndexOf("\"checksum\":\"", StringComparison.Ordinal) + 12;
        Encoding.ASCII.GetBytes(new string('0', 64)).CopyTo(bytes, place);
        Encoding.ASCII.GetBytes(Convert.ToHexString(SHA256.HashData(bytes))).CopyTo(bytes, place);
        return bytes;
    }
}
