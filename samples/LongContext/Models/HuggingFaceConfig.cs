using System.Text.Json;

namespace LongContext.Models;

/// <summary>Reads <c>config.json</c> of a Hugging Face folder.</summary>
internal static class HuggingFaceConfig
{
    public const string FileName = "config.json";

    /// <summary>The window of Mistral and of a Qwen that has one, if the configuration does not say it.</summary>
    private const long DefaultWindow = 4096;

    public static DecoderConfig Read(string folder)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, FileName)));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? Read(new ConfigEntries(document.RootElement, FileName))
                : throw new InputException($"{FileName} is not a JSON object.");
        }
        catch (JsonException error)
        {
            throw new InputException($"{FileName} is not JSON: {error.Message}");
        }
    }

    private static DecoderConfig Read(ConfigEntries entries)
    {
        entries.Ignore(
            "architectures", "_name_or_path", "name_or_path", "auto_map", "torch_dtype", "dtype", "transformers_version", "transformers.js_config", "bos_token_id", "pad_token_id",
            "sep_token_id", "unk_token_id", "use_cache", "pretraining_tp", "attn_implementation", "_attn_implementation", "gradient_checkpointing",
            "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "is_llama_config", "_attn_implementation_autoset", "max_sequence_length", "tokenizer_class",
            "output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type", "finetuning_task", "torchscript",
            "max_length", "min_length", "max_new_tokens", "do_sample", "num_beams", "temperature", "top_k", "top_p", "repetition_penalty");
        entries.Require("rope_interleaved", false);
        entries.Require("is_encoder_decoder", false);
        entries.Require("lm_head_bias", false);
        var family = entries.Text("model_type");
        var config = family switch
        {
            "llama" => Llama(entries, family),
            "mistral" => Mistral(entries, family),
            "qwen2" => Qwen2(entries, family),
            "qwen3" => Qwen3(entries, family),
            "phi3" => Phi3(entries, family),
            "gpt2" => Gpt2(entries, family),
            _ => throw entries.Refuse("model_type", "supported are llama (LLaMA 2 and 3, SmolLM2), mistral, qwen2, qwen3, phi3 and gpt2"),
        };
        config = config with { EndTokens = entries.Integers("eos_token_id"), InitializerRange = entries.Number("initializer_range", 0.02) };
        entries.Finish();
        return Checked(config);
    }

    private static DecoderConfig Llama(ConfigEntries entries, string family)
    {
        var hasBias = entries.Flag("attention_bias", false);
        return Common(entries, family) with { InputBias = hasBias, OutputBias = hasBias, MlpBias = entries.Flag("mlp_bias", false) };
    }

    private static DecoderConfig Mistral(ConfigEntries entries, string family)
    {
        var config = Common(entries, family);
        return config with { SlidingWindow = Window(entries, DefaultWindow) };
    }

    private static DecoderConfig Qwen2(ConfigEntries entries, string family) => WithWindowOfQwen(entries, Common(entries, family) with { InputBias = true });

    private static DecoderConfig Qwen3(ConfigEntries entries, string family)
    {
        var hasBias = entries.Flag("attention_bias", false);
        entries.Integer("head_dim"); // not the width over the heads if it is missing, as in the other families
        return WithWindowOfQwen(entries, Common(entries, family) with { InputBias = hasBias, OutputBias = hasBias, QueryKeyNorm = true });
    }

    private static DecoderConfig Phi3(ConfigEntries entries, string family)
    {
        entries.Require("attention_bias", false);
        entries.Require("mlp_bias", false);
        entries.Ignore("full_attn_mod", "interpolate_factor"); // in configurations of Phi-4-mini; no code of the family reads them
        return Common(entries, family, epsilon: 1e-5) with { SlidingWindow = Window(entries, ifMissing: null) };
    }

    private static DecoderConfig Gpt2(ConfigEntries entries, string family)
    {
        entries.Require("scale_attn_weights", true);
        entries.Require("scale_attn_by_inverse_layer_idx", false);
        entries.Require("add_cross_attention", false);
        entries.Ignore("n_ctx", "reorder_and_upcast_attn", "task_specific_params", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj");
        var (width, heads) = (entries.Integer("n_embd"), entries.Integer("n_head"));
        return new()
        {
            Family = family,
            IsMlpGated = false,
            IsLayerNorm = true,
            Vocabulary = entries.Integer("vocab_size"),
            Width = width,
            Layers = (int)entries.Integer("n_layer"),
            Heads = heads,
            KeyValueHeads = heads,
            HeadWidth = heads > 0 ? width / heads : 0,
            MlpWidth = entries.Integer("n_inner", 4 * width),
            Length = entries.Integer("n_positions"),
            NormEpsilon = entries.Number("layer_norm_epsilon", 1e-5),
            Activation = ActivationOf(entries, "activation_function", "gelu_new"),
            InputBias = true,
            OutputBias = true,
            MlpBias = true,
            IsTied = entries.Flag("tie_word_embeddings", true),
        };
    }

    private static DecoderConfig Common(ConfigEntries entries, string family, double epsilon = 1e-6)
    {
        var (width, heads, length) = (entries.Integer("hidden_size"), entries.Integer("num_attention_heads"), entries.Integer("max_position_embeddings"));
        var headWidth = entries.Integer("head_dim", heads > 0 ? width / heads : 0);
        return new()
        {
            Family = family,
            Vocabulary = entries.Integer("vocab_size"),
            Width = width,
            Layers = (int)entries.Integer("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = entries.Integer("num_key_value_heads", family is "llama" or "phi3" ? heads : null),
            HeadWidth = headWidth,
            MlpWidth = entries.Integer("intermediate_size"),
            Length = length,
            NormEpsilon = entries.Number("rms_norm_eps", epsilon),
            Activation = ActivationOf(entries, "hidden_act", "silu"),
            Rotary = RotaryEntry.Read(entries, headWidth, length, family),
            IsTied = entries.Flag("tie_word_embeddings", false),
        };
    }

    /// <summary>A window in the layers that <c>layer_types</c> names, or in all from <c>max_window_layers</c> on, if windows are used at all.</summary>
    private static DecoderConfig WithWindowOfQwen(ConfigEntries entries, DecoderConfig config)
    {
        entries.Require("use_mrope", false);
        var slides = entries.Flag("use_sliding_window", false);
        if (entries.Has("layer_types") && entries.Texts("layer_types").FirstOrDefault(type => type is not ("full_attention" or "sliding_attention")) is { } other)
        {
            throw entries.Refuse("layer_types", $"'{other}' is not supported");
        }

        entries.Ignore("max_window_layers", "sliding_window");
        return config with { SlidingWindow = slides ? Window(entries, DefaultWindow) : null };
    }

    private static long? Window(ConfigEntries entries, long? ifMissing) =>
        entries.Lacks("sliding_window") ? ifMissing : entries.Has("sliding_window") ? entries.Integer("sliding_window") : null;

    private static Activation ActivationOf(ConfigEntries entries, string name, string byDefault) => entries.Text(name, byDefault) switch
    {
        "silu" or "swish" => Activation.Silu,
        "gelu" => Activation.Gelu,
        "gelu_new" or "gelu_pytorch_tanh" => Activation.GeluTanh,
        _ => throw entries.Refuse(name, "supported are silu, gelu and gelu_new"),
    };

    private static DecoderConfig Checked(DecoderConfig config)
    {
        (string Name, long Value)[] sizes =
        [
            ("vocabulary", config.Vocabulary), ("width", config.Width), ("number of layers", config.Layers), ("number of heads", config.Heads),
            ("number of key/value heads", config.KeyValueHeads), ("width of a head", config.HeadWidth), ("width of the MLP", config.MlpWidth), ("length", config.Length),
        ];
        if (sizes.FirstOrDefault(size => size.Value < 1) is { Name: not null } wrong)
        {
            throw new InputException($"{FileName} says that the {wrong.Name} is {wrong.Value}; it must be at least 1.");
        }

        if (!(config.InitializerRange > 0))
        {
            throw new InputException($"{FileName} says that the initializer_range is {config.InitializerRange}; it must be greater than 0.");
        }

        return config.Heads % config.KeyValueHeads == 0
            ? config
            : throw new InputException($"{FileName} has {config.KeyValueHeads} key/value heads, which do not divide its {config.Heads} heads.");
    }
}
