using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>A family: a configuration as its models have it but tiny, random weights under the family's names, and the family's equations.</summary>
internal sealed record FamilyCase(string Name, string Config, Func<Dictionary<string, Tensor>> Weights, Func<Dictionary<string, Tensor>, Tensor, Tensor> Logits)
{
    public const int Vocabulary = 37, Width = 32, Layers = 2, Heads = 4, Mlp = 24, Segment = 8;

    private const string Sizes = """
        "vocab_size": 37, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "hidden_act": "silu", "initializer_range": 0.02,
        "architectures": ["ForCausalLM"], "torch_dtype": "bfloat16", "transformers_version": "4.50.0", "use_cache": true, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0
        """;

    public static IReadOnlyList<FamilyCase> All { get; } =
    [
        Llama("LLaMA 2", """ "model_type": "llama", "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "pretraining_tp": 1, "rope_scaling": null """,
            new PlainShape { KeyHeads = 4, HeadWidth = 8, Epsilon = 1e-5, Frequencies = PlainModel.Frequencies(10000, 8) }),
        Llama("LLaMA 3.1", """
             "model_type": "llama", "max_position_embeddings": 256, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "attention_bias": false, "mlp_bias": false,
             "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128, "rope_type": "llama3"}
            """,
            new PlainShape { KeyHeads = 2, HeadWidth = 8, Epsilon = 1e-5, Frequencies = Llama31() }),
        Llama("LLaMA with biases and linear scaling", """
             "model_type": "llama", "max_position_embeddings": 64, "num_key_value_heads": 2, "attention_bias": true, "mlp_bias": true,
             "rope_scaling": {"type": "linear", "factor": 2.0}
            """,
            new PlainShape
            {
                KeyHeads = 2,
                HeadWidth = 8,
                Epsilon = 1e-6,
                Frequencies = [.. PlainModel.Frequencies(10000, 8).Select(f => f / 2)],
                InputBias = true,
                OutputBias = true,
                MlpBias = true,
            }),
        Llama("SmolLM2, bfloat16", """
             "model_type": "llama", "max_position_embeddings": 64, "num_key_value_heads": 4, "head_dim": 8, "rms_norm_eps": 1e-5, "rope_theta": 100000, "tie_word_embeddings": true,
             "is_llama_config": true, "rope_interleaved": false, "transformers.js_config": {"kv_cache_dtype": {}}
            """,
            new PlainShape { KeyHeads = 4, HeadWidth = 8, Epsilon = 1e-5, Frequencies = PlainModel.Frequencies(100000, 8), IsTied = true, Type = ScalarType.BFloat16 }),
        Llama("Mistral", """
             "model_type": "mistral", "max_position_embeddings": 64, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "sliding_window": 8, "rope_theta": 10000.0, "head_dim": 10
            """,
            new PlainShape { KeyHeads = 2, HeadWidth = 10, Epsilon = 1e-5, Frequencies = PlainModel.Frequencies(10000, 10) }),
        Llama("Qwen 2 with YaRN", """
             "model_type": "qwen2", "max_position_embeddings": 128, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000.0, "tie_word_embeddings": true,
             "use_sliding_window": false, "sliding_window": 4, "max_window_layers": 1, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
            """,
            new PlainShape
            {
                KeyHeads = 2,
                HeadWidth = 8,
                Epsilon = 1e-6,
                Frequencies = Yarn(),
                Amplitude = (0.1 * Math.Log(4)) + 1,
                IsTied = true,
                InputBias = true,
            }),
        Llama("Qwen 3", """
             "model_type": "qwen3", "max_position_embeddings": 64, "num_key_value_heads": 2, "head_dim": 12, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": true,
             "attention_bias": false, "use_sliding_window": false, "sliding_window": null, "max_window_layers": 2, "rope_scaling": null
            """,
            new PlainShape { KeyHeads = 2, HeadWidth = 12, Epsilon = 1e-6, Frequencies = PlainModel.Frequencies(1000000, 12), IsTied = true, HeadNorm = true }),
        Llama("Phi-3 with LongRoPE", """
             "model_type": "phi3", "max_position_embeddings": 128, "original_max_position_embeddings": 16, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
             "partial_rotary_factor": 0.75, "sliding_window": 64, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attention_bias": false, "auto_map": {}, "pad_token_id": 0,
             "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.25, 1.5], "long_factor": [1.0, 4.0, 8.0]}
            """,
            new PlainShape
            {
                KeyHeads = 2,
                HeadWidth = 8,
                Epsilon = 1e-5,
                IsFused = true,
                Amplitude = Math.Sqrt(1 + (Math.Log(8) / Math.Log(16))),
                Frequencies = [.. PlainModel.Frequencies(10000, 6).Zip([1, 1.25, 1.5], (frequency, factor) => frequency / factor)],
            }),
        new("GPT-2", """
            {"model_type": "gpt2", "vocab_size": 37, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "n_ctx": 16, "n_inner": 24, "activation_function": "gelu_new",
             "layer_norm_epsilon": 1e-5, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "summary_type": "cls_index", "bos_token_id": 2, "eos_token_id": 2}
            """,
            Gpt2Plain.Weights, Gpt2Plain.Logits),
    ];

    public static TheoryData<string> Names => [.. All.Select(family => family.Name)];

    public static FamilyCase Of(string name) => All.Single(family => family.Name == name);

    private static FamilyCase Llama(string name, string entries, PlainShape shape) =>
        new(name, $"{{{Sizes}, {entries}}}", () => PlainModel.Weights(shape), (weights, tokens) => PlainModel.Logits(shape, weights, tokens));

    /// <summary>Wavelengths of theta 500000 and width 8 in tokens: 6, 167, 4443, 118 thousand. With 128 original ones the first turns more than 4 times, the others less than once.</summary>
    private static double[] Llama31()
    {
        var plain = PlainModel.Frequencies(500000, 8);
        return [plain[0], plain[1] / 8, plain[2] / 8, plain[3] / 8];
    }

    /// <summary>Of width 8 and theta 1000, the pairs with 32 turns and with 1 turn in 32 tokens are -1.06 and 0.94, rounded to -2 and 1, so that the ramp goes from 0 to 1.</summary>
    private static double[] Yarn()
    {
        var plain = PlainModel.Frequencies(1000, 8);
        return [plain[0], plain[1] / 4, plain[2] / 4, plain[3] / 4];
    }
}
