using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>What cannot be honoured exactly is refused with one sentence that names the entry or the file.</summary>
public sealed class ModelBadInputTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("\"model_type\": \"llama\"", "\"model_type\": \"mamba\"", "'model_type': \"mamba\"")]
    [InlineData("\"hidden_size\": 32, ", "", "no entry 'hidden_size'")]
    [InlineData("\"hidden_size\": 32", "\"hidden_size\": \"wide\"", "'hidden_size': \"wide\"")]
    [InlineData("\"hidden_size\": 32", "\"hidden_size\": 64", "'model.embed_tokens.weight' (37, 32); by config.json it is (37, 64)")]
    [InlineData("\"num_attention_heads\": 4", "\"num_attention_heads\": 2", "'q_proj.weight' has shape (32, 32)", "\"head_dim\": 8, ")]
    [InlineData("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "lack 'model.layers.2.input_layernorm.weight' (32)")]
    [InlineData("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "'model.layers.1.input_layernorm.weight'")]
    [InlineData("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "number of layers is 0")]
    [InlineData("\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", "'hidden_act': \"relu\"")]
    [InlineData("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}", "'rope_type': \"dynamic\"")]
    [InlineData("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"linear\"}", "rope_scaling, has no entry 'factor'")]
    [InlineData("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2, \"slope\": 3}", "'slope': 3")]
    [InlineData("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": -2}", "Factor is -2")]
    [InlineData("\"pretraining_tp\": 1", "\"logit_scale\": 0.5", "'logit_scale': 0.5")]
    [InlineData("\"pretraining_tp\": 1", "\"quantization_config\": {\"bits\": 4}", "'quantization_config'")]
    [InlineData("\"pretraining_tp\": 1", "\"attention_bias\": true", "'q_proj.bias' (32) is missing")]
    [InlineData("{", "[", "config.json is not JSON")]
    public void A_configuration_that_is_not_understood_or_does_not_fit_is_refused(string entry, string instead, string message, string also = "")
    {
        using var scope = NewDisposeScope();
        var family = FamilyCase.Of("LLaMA 2");
        Assert.Contains(entry, family.Config);
        TinyFolder.Write(folder.Path, family.Config.Replace(entry, instead).Replace("\"vocab_size\"", also + "\"vocab_size\""), family.Weights());
        Refuses(message);
    }

    [Fact]
    public void Weights_that_the_configuration_does_not_say_are_refused()
    {
        using var scope = NewDisposeScope();
        Refuses("'k_norm.weight' (8) is left over; with it QueryKeyNorm", weights => weights["model.layers.1.self_attn.k_norm.weight"] = ones(8));
        Refuses("'model.layers.1.extra.weight' (8)", weights => weights["model.layers.1.extra.weight"] = ones(8));
        Refuses("lack 'lm_head.weight' (37, 32)", weights => weights.Remove("lm_head.weight"));
        Refuses("'model.norm.weight' as I8", weights => weights["model.norm.weight"] = ones(32, ScalarType.Int8));
    }

    [Fact]
    public void A_head_beside_a_tied_embedding_must_be_the_embedding()
    {
        using var scope = NewDisposeScope();
        var family = FamilyCase.Of("Qwen 3");
        var weights = family.Weights();
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"];
        TinyFolder.Write(folder.Path, family.Config, weights);
        PretrainedModel.LoadDecoder(folder.Path, new()).Dispose();
        weights["lm_head.weight"] = ones(37, 32);
        TinyFolder.Write(folder.Path, family.Config, weights);
        Refuses("tie_word_embeddings");
    }

    [Fact]
    public void A_window_shorter_than_a_segment_and_positions_fewer_than_a_segment_are_refused()
    {
        using var scope = NewDisposeScope();
        var (mistral, gpt2) = (FamilyCase.Of("Mistral"), FamilyCase.Of("GPT-2"));
        TinyFolder.Write(folder.Path, mistral.Config, mistral.Weights());
        Refuses("sliding_window is 8", segment: 16);
        using (var decoder = PretrainedModel.LoadDecoder(folder.Path, new()))
        {
            Assert.Equal(8, decoder.Attention.SegmentLength);
        }

        TinyFolder.Write(folder.Path, gpt2.Config, gpt2.Weights());
        Refuses("learned positions for 16 tokens", segment: 17);
    }

    [Fact]
    public void A_window_that_is_not_said_is_the_familys_own_and_one_that_is_null_is_none()
    {
        using var scope = NewDisposeScope();
        var mistral = FamilyCase.Of("Mistral");
        Assert.Equal(4096L, Window("\"rope_theta\": 10000.0"));
        Assert.Null(Window("\"sliding_window\": null"));

        long? Window(string entry)
        {
            TinyFolder.Write(folder.Path, mistral.Config.Replace("\"sliding_window\": 8", entry).Replace("10000.0, \"rope_theta\": ", ""), mistral.Weights());
            using var decoder = PretrainedModel.LoadDecoder(folder.Path, new());
            return decoder.Config.SlidingWindow;
        }
    }

    [Fact]
    public void A_factor_of_LongRoPE_that_contradicts_the_lengths_is_refused()
    {
        using var scope = NewDisposeScope();
        var phi3 = FamilyCase.Of("Phi-3 with LongRoPE");
        TinyFolder.Write(folder.Path, phi3.Config.Replace("\"type\": \"longrope\"", "\"type\": \"longrope\", \"factor\": 4.0"), phi3.Weights());
        Refuses("'factor': 4.0; it is not 8");
    }

    [Fact]
    public void Weights_of_nanoGPT_which_are_not_transposed_are_refused()
    {
        using var scope = NewDisposeScope();
        var gpt2 = FamilyCase.Of("GPT-2");
        var weights = gpt2.Weights();
        foreach (var name in weights.Keys.Where(name => name.Contains(".c_") && weights[name].dim() == 2).ToArray())
        {
            weights[name] = weights[name].t();
        }

        TinyFolder.Write(folder.Path, gpt2.Config, weights);
        Refuses("'c_attn.weight' has shape (96, 32); the layer takes (32, 96)");
    }

    [Fact]
    public void Missing_and_damaged_files_are_refused()
    {
        using var scope = NewDisposeScope();
        var family = FamilyCase.Of("LLaMA 2");
        Assert.Contains("There is no folder", Assert.Throws<InputException>(() => PretrainedModel.LoadDecoder(folder.File("nowhere"), new())).Message);
        Refuses("has neither config.json nor model.bin");
        File.WriteAllText(folder.File("config.json"), family.Config);
        Refuses("has neither model.safetensors nor model.safetensors.index.json");

        TinyFolder.Write(folder.Path, family.Config, family.Weights());
        var whole = File.ReadAllBytes(folder.File("model.safetensors"));
        foreach (var length in new[] { 0, 5, 100, whole.Length / 2, whole.Length - 1 })
        {
            File.WriteAllBytes(folder.File("model.safetensors"), whole[..length]);
            Refuses("model.safetensors is truncated");
        }

        whole[8] = (byte)'x';
        File.WriteAllBytes(folder.File("model.safetensors"), whole);
        Refuses("model.safetensors cannot be read");

        TinyFolder.Write(folder.Path, family.Config, family.Weights(), shards: 3);
        File.Delete(folder.File(TinyFolder.ShardName(1, 3)));
        Refuses("'model-00002-of-00003.safetensors'");
    }

    [Fact]
    public void A_damaged_checkpoint_of_llama2c_is_refused()
    {
        File.WriteAllBytes(folder.File("model.bin"), new byte[20]);
        Refuses("is truncated");
        File.WriteAllBytes(folder.File("model.bin"), new byte[200]);
        Refuses("not a llama2.c checkpoint");
        int[] header = [32, 24, 2, 4, 2, 37, 16];
        File.WriteAllBytes(folder.File("model.bin"), [.. header.SelectMany(BitConverter.GetBytes), .. new byte[400]]);
        Refuses("has 428 bytes");
    }

    [Fact]
    public void A_tokenizer_of_another_vocabulary_is_refused_when_it_gives_a_token_that_the_model_does_not_have()
    {
        using var scope = NewDisposeScope();
        var family = FamilyCase.Of("LLaMA 2");
        TinyFolder.Write(folder.Path, family.Config, family.Weights());
        Assert.Contains("no tokenizer.json", Assert.Throws<InputException>(() => PretrainedModel.Load(folder.Path, new())).Message);

        TinyFolder.WriteTokenizer(folder.Path, ("good", 36), ("bad", 37));
        using var model = PretrainedModel.Load(folder.Path, new());
        Assert.Equal([36, 0, 36], model.Tokenizer.Encode("good unknown good"));
        Assert.Equal("good", model.Tokenizer.Decode([36]).Trim());
        Assert.Contains("token 37, but the model's vocabulary has 37", Assert.Throws<InputException>(() => model.Tokenizer.Encode("good bad")).Message);

        File.WriteAllText(folder.File("tokenizer.json"), "{}");
        Assert.Contains("tokenizer.json cannot be read", Assert.Throws<InputException>(() => PretrainedModel.Load(folder.Path, new())).Message);
    }

    private void Refuses(string message, Action<Dictionary<string, Tensor>> spoil)
    {
        var family = FamilyCase.Of("LLaMA 2");
        var weights = family.Weights();
        spoil(weights);
        TinyFolder.Write(folder.Path, family.Config, weights);
        Refuses(message);
    }

    private void Refuses(string message, long? segment = null)
    {
        var error = Assert.Throws<InputException>(() => PretrainedModel.LoadDecoder(folder.Path, new ConversionOptions { SegmentLength = segment }));
        Assert.Contains(message, error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }
}
