using System.Buffers.Binary;
using InfiniAttention;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>A checkpoint of llama2.c: seven integers, then float32 weights in a fixed order. Its rotary pairs are interleaved.</summary>
internal static class Llama2cFile
{
    public const string FileName = "model.bin";

    /// <summary>The family of its configuration.</summary>
    public const string Family = "llama2.c";

    private const int HeaderBytes = 7 * sizeof(int);

    public static DecoderConfig LoadConfig(string path)
    {
        using var file = File.OpenRead(path);
        return ReadConfig(file, path);
    }

    public static Decoder Load(string path, ConversionOptions options, ScalarType type, Device? device)
    {
        using var file = File.OpenRead(path);
        var config = ReadConfig(file, path);
        var decoder = Decoder.Create(config, options, type, device);
        try
        {
            using var noGrad = no_grad();
            Fill(decoder, file);
            return decoder;
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    private static DecoderConfig ReadConfig(FileStream file, string path)
    {
        var header = new byte[HeaderBytes];
        if (file.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) < HeaderBytes)
        {
            throw new InputException($"'{path}' is truncated: {file.Length} bytes.");
        }

        long[] numbers = [.. Enumerable.Range(0, 7).Select(i => (long)BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(i * sizeof(int))))];
        var (width, mlp, layers, heads, keyHeads, vocabulary, length) = (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], Math.Abs(numbers[5]), numbers[6]);
        if (numbers.Any(number => Math.Abs(number) is < 1 or > 1 << 24) || width % heads != 0 || heads % keyHeads != 0)
        {
            throw new InputException($"'{path}' is not a llama2.c checkpoint: its header says {string.Join(", ", numbers)}.");
        }

        var config = new DecoderConfig
        {
            Family = Family,
            Vocabulary = vocabulary,
            Width = width,
            Layers = (int)layers,
            Heads = heads,
            KeyValueHeads = keyHeads,
            HeadWidth = width / heads,
            MlpWidth = mlp,
            Length = length,
            NormEpsilon = 1e-5,
            Rotary = new RotaryOptions(Pairing: RotaryPairing.Interleaved),
            IsTied = numbers[5] > 0,
            EndTokens = [1, 2], // llama2.c ends a story where another begins
        };
        var keyWidth = keyHeads * config.HeadWidth;
        var floats = (vocabulary * width * (config.IsTied ? 1 : 2)) + (layers * width * ((2 * width) + (2 * keyWidth) + (3 * mlp) + 2)) + width + (length * config.HeadWidth);
        return file.Length == HeaderBytes + (floats * sizeof(float))
            ? config
            : throw new InputException($"'{path}' has {file.Length} bytes; a llama2.c checkpoint with its header has {HeaderBytes + (floats * sizeof(float))}.");
    }

    private static void Fill(Decoder decoder, FileStream file)
    {
        var body = decoder.Body;
        Read(body.Embedding.Weight);
        Each(layer => layer.AttentionNorm.Weight);
        foreach (var projection in new[] { "q_proj", "k_proj", "v_proj", "o_proj" })
        {
            Each(layer => layer.Infini.get_parameter($"{projection}.weight")!);
        }

        Each(layer => layer.MlpNorm.Weight);
        Each(layer => layer.Mlp.Gate!.weight!);
        Each(layer => layer.Mlp.Down.weight!);
        Each(layer => layer.Mlp.Up.weight!);
        Read(body.Norm.Weight);
        if (!decoder.Config.IsTied)
        {
            file.Position += decoder.Config.Length * decoder.Config.HeadWidth * sizeof(float); // cosines and sines, which follow from the other sizes
            Read(decoder.Head);
        }

        void Each(Func<DecoderLayer, Tensor> weight)
        {
            foreach (var layer in body.Layers)
            {
                Read(weight(layer));
            }
        }

        void Read(Tensor weight)
        {
            using var scope = NewDisposeScope();
            var stored = empty(weight.shape, ScalarType.Float32, CPU);
            SafetensorsFolder.Fill(stored, file);
            weight.copy_(stored);
        }
    }
}
