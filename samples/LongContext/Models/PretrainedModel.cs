using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>A decoder and its tokenizer, from a folder that people have.</summary>
public sealed record PretrainedModel(Decoder Decoder, ITextTokenizer Tokenizer) : IDisposable
{
    /// <summary>Reads a Hugging Face folder, or a folder with <c>model.bin</c> and <c>tokenizer.bin</c> of llama2.c.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="options">How attention becomes Infini-attention.</param>
    /// <param name="type">The type in which the model runs; weights in another floating point type are converted.</param>
    /// <param name="device">Where the model runs.</param>
    /// <exception cref="InputException">The folder cannot be honoured exactly; the message names the entry or the file.</exception>
    public static PretrainedModel Load(string folder, ConversionOptions options, ScalarType type = ScalarType.Float32, Device? device = null)
    {
        var decoder = LoadDecoder(folder, options, type, device);
        try
        {
            return new(decoder, LoadTokenizer(folder));
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    /// <summary>The tokenizer of a folder alone.</summary>
    /// <inheritdoc cref="Load"/>
    public static ITextTokenizer LoadTokenizer(string folder)
    {
        var vocabulary = LoadConfig(folder).Vocabulary;
        return !File.Exists(Path.Combine(folder, HuggingFaceTokenizer.FileName)) && File.Exists(Path.Combine(folder, Llama2cTokenizer.FileName))
            ? new Llama2cTokenizer(Path.Combine(folder, Llama2cTokenizer.FileName), vocabulary)
            : new HuggingFaceTokenizer(folder, vocabulary);
    }

    /// <summary>The configuration of a folder alone.</summary>
    /// <inheritdoc cref="Load"/>
    public static DecoderConfig LoadConfig(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new InputException($"There is no folder '{folder}'.");
        }

        return File.Exists(Path.Combine(folder, HuggingFaceConfig.FileName)) ? HuggingFaceConfig.Read(folder)
            : File.Exists(Path.Combine(folder, Llama2cFile.FileName)) ? Llama2cFile.LoadConfig(Path.Combine(folder, Llama2cFile.FileName))
            : throw new InputException($"'{folder}' has neither {HuggingFaceConfig.FileName} nor {Llama2cFile.FileName} of llama2.c.");
    }

    /// <summary>A new decoder: the configuration of a Hugging Face folder, and weights drawn at random. Weights in the folder are not read.</summary>
    /// <inheritdoc cref="Load"/>
    public static Decoder CreateDecoder(string folder, ConversionOptions options, ScalarType type = ScalarType.Float32, Device? device = null)
    {
        if (!File.Exists(Path.Combine(folder, HuggingFaceConfig.FileName)))
        {
            throw new InputException($"'{folder}' has no {HuggingFaceConfig.FileName}, which says how large a new model is.");
        }

        var decoder = Decoder.Create(HuggingFaceConfig.Read(folder), options, type, device);
        decoder.Draw();
        return decoder;
    }

    /// <summary>What <see cref="Load"/> reads, without the tokenizer.</summary>
    /// <inheritdoc cref="Load"/>
    public static Decoder LoadDecoder(string folder, ConversionOptions options, ScalarType type = ScalarType.Float32, Device? device = null)
    {
        var config = LoadConfig(folder);
        return config.Family == Llama2cFile.Family
            ? Llama2cFile.Load(Path.Combine(folder, Llama2cFile.FileName), options, type, device)
            : HuggingFaceFolder.Load(folder, config, options, type, device);
    }

    /// <summary>How the attention of a folder that <see cref="Save"/> wrote was converted; null for other folders.</summary>
    public static ConversionOptions? SavedOptions(string folder) => ConvertedFolder.Options(folder);

    /// <summary>Saves a decoder as a folder that this program and others read: each file is written whole or not at all, the weights last.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="options">How its attention was converted; null for a plain model, without what is of the memory.</param>
    /// <param name="source">The folder that it came from, whose configuration and tokenizer are copied.</param>
    /// <param name="target">The folder to write.</param>
    public static void Save(Decoder decoder, ConversionOptions? options, string source, string target) => ConvertedFolder.Save(decoder, options, source, target);

    public void Dispose()
    {
        Decoder.Dispose();
        Tokenizer.Dispose();
    }
}
