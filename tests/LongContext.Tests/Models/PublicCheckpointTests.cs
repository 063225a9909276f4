using System.Globalization;
using System.IO.Compression;
using InfiniAttention;
using LongContext.Models;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>A checkpoint that nobody here made, beside the repository on some machines: its logits are those that llama2.c gives.</summary>
public class PublicCheckpointTests(ITestOutputHelper output)
{
    private const int Length = 128;

    [Fact]
    public void Its_logits_are_those_of_llama2c_up_to_the_first_boundary()
    {
        if (Folder() is not { } folder)
        {
            output.WriteLine("Not run: there is no ../shared/data/models beside the repository.");
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var lines = Lines(Path.Combine(folder, "logits.txt.gz"));
        var tokens = tensor(lines.Select(line => (long)line[0]).ToArray()).unsqueeze(0);
        var expected = stack([.. lines.Select(line => tensor(line[1..]))]).unsqueeze(0);
        foreach (var update in Enum.GetValues<MemoryUpdate>())
        {
            using var model = PretrainedModel.Load(folder, new() { Update = update });
            Assert.Equal(Length, model.Decoder.Attention.SegmentLength);
            var difference = (expected - model.Decoder.call(tokens)).abs().max().item<float>();
            output.WriteLine($"{update}: logits differ by at most {difference:0.0e+0} of {expected.abs().max().item<float>():0.0}");
            Assert.True(difference < 1e-4);

            using var stream = new SegmentStreamer(model.Decoder);
            var pieces = Enumerable.Range(0, Length / 8).Select(i => stream.Forward(tokens.narrow(1, 8 * i, 8))).ToArray();
            Assert.True((expected - cat(pieces, 1)).abs().max().item<float>() < 1e-4);
        }
    }

    [Fact]
    public void Its_tokenizer_gives_its_text_back()
    {
        if (Folder() is not { } folder)
        {
            output.WriteLine("Not run: there is no ../shared/data/models beside the repository.");
            return;
        }

        using var model = PretrainedModel.Load(folder, new());
        const string Text = "Once upon a time, there was a dragon.\nIts name: \u00c9lan \ud83d\ude00.";
        var tokens = model.Tokenizer.Encode(Text);
        Assert.Equal(1, tokens[0]);
        Assert.Equal(Text, model.Tokenizer.Decode(tokens));
        Assert.True(tokens.Length < Text.Length);
    }

    private static float[][] Lines(string path)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(number => float.Parse(number, CultureInfo.InvariantCulture)).ToArray())];
    }

    private static string? Folder()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "InfiniAttention.sln")))
            {
                var models = Path.Combine(folder.FullName, "..", "shared", "data", "models", "aidreams-260k");
                return Directory.Exists(models) ? models : null;
            }
        }

        return null;
    }
}
