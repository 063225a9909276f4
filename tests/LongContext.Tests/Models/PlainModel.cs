using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>What a LLaMA-like family computes.</summary>
internal sealed record PlainShape
{
    public required int KeyHeads { get; init; }
    public required int HeadWidth { get; init; }
    public required double Epsilon { get; init; }

    /// <summary>The angle of a token for each rotated pair; elements beyond the pairs are not rotated.</summary>
    public required double[] Frequencies { get; init; }

    /// <summary>What rotated queries and keys are multiplied by.</summary>
    public double Amplitude { get; init; } = 1;
    public bool IsTied { get; init; }
    public bool IsFused { get; init; }
    public bool HeadNorm { get; init; }
    public bool InputBias { get; init; }
    public bool OutputBias { get; init; }
    public bool MlpBias { get; init; }
    public bool IsInterleaved { get; init; }
    public ScalarType Type { get; init; } = ScalarType.Float32;
}

/// <summary>The equations of LLaMA and its kin, in float64, one row and one head at a time: embedding, RMS norms, rotary attention, SwiGLU, head.</summary>
internal static class PlainModel
{
    public static double[] Frequencies(double theta, int width) => [.. Enumerable.Range(0, width / 2).Select(i => 1 / Math.Pow(theta, 2.0 * i / width))];

    public static Tensor Normal(ScalarType type, double deviation, params long[] shape) => (randn(shape) * deviation).to(type);

    public static Dictionary<string, Tensor> Weights(PlainShape shape)
    {
        const int D = FamilyCase.Width, M = FamilyCase.Mlp;
        long queries = FamilyCase.Heads * shape.HeadWidth, keys = shape.KeyHeads * shape.HeadWidth;
        var weights = new Dictionary<string, Tensor> { ["model.embed_tokens.weight"] = Normal(shape.Type, 1, FamilyCase.Vocabulary, D) };
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            var layer = $"model.layers.{i}.";
            Norm(layer + "input_layernorm.weight", D);
            if (shape.IsFused)
            {
                Matrix(layer + "self_attn.qkv_proj", queries + (2 * keys), D, false);
                Matrix(layer + "mlp.gate_up_proj", 2 * M, D, false);
            }
            else
            {
                Matrix(layer + "self_attn.q_proj", queries, D, shape.InputBias);
                Matrix(layer + "self_attn.k_proj", keys, D, shape.InputBias);
                Matrix(layer + "self_attn.v_proj", keys, D, shape.InputBias);
                Matrix(layer + "mlp.gate_proj", M, D, shape.MlpBias);
                Matrix(layer + "mlp.up_proj", M, D, shape.MlpBias);
            }

            Matrix(layer + "self_attn.o_proj", D, queries, shape.OutputBias);
            if (shape.HeadNorm)
            {
                Norm(layer + "self_attn.q_norm.weight", shape.HeadWidth);
                Norm(layer + "self_attn.k_norm.weight", shape.HeadWidth);
            }

            Norm(layer + "post_attention_layernorm.weight", D);
            Matrix(layer + "mlp.down_proj", D, M, shape.MlpBias);
        }

        Norm("model.norm.weight", D);
        if (!shape.IsTied)
        {
            weights["lm_head.weight"] = Normal(shape.Type, 0.5, FamilyCase.Vocabulary, D);
        }

        return weights;

        void Norm(string name, long width) => weights[name] = (1 + randn(width) * 0.2).to(shape.Type);

        void Matrix(string name, long rows, long columns, bool hasBias)
        {
            weights[name + ".weight"] = Normal(shape.Type, 1.5 / Math.Sqrt(columns), rows, columns);
            if (hasBias)
            {
                weights[name + ".bias"] = Normal(shape.Type, 0.3, rows);
            }
        }
    }

    /// <summary>Tokens (B, T) to logits (B, T, vocabulary).</summary>
    public static Tensor Logits(PlainShape shape, Dictionary<string, Tensor> weights, Tensor tokens) => stack([.. Rows(tokens).Select(row =>
    {
        var x = W("model.embed_tokens.weight")[row]; // (T, D)
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            var layer = $"model.layers.{i}.";
            x += Attention(Rms(x, W(layer + "input_layernorm.weight"), shape.Epsilon), layer + "self_attn.");
            var y = Rms(x, W(layer + "post_attention_layernorm.weight"), shape.Epsilon);
            var (gate, up) = shape.IsFused ? Halves(Linear(layer + "mlp.gate_up_proj", y)) : (Linear(layer + "mlp.gate_proj", y), Linear(layer + "mlp.up_proj", y));
            x += Linear(layer + "mlp.down_proj", gate * sigmoid(gate) * up);
        }

        return matmul(Rms(x, W("model.norm.weight"), shape.Epsilon), W(shape.IsTied ? "model.embed_tokens.weight" : "lm_head.weight").t());

        Tensor Attention(Tensor x, string name)
        {
            long queries = FamilyCase.Heads * shape.HeadWidth, keys = shape.KeyHeads * shape.HeadWidth;
            Tensor q, k, v;
            if (shape.IsFused)
            {
                var fused = Linear(name + "qkv_proj", x);
                (q, k, v) = (fused.narrow(1, 0, queries), fused.narrow(1, queries, keys), fused.narrow(1, queries + keys, keys));
            }
            else
            {
                (q, k, v) = (Linear(name + "q_proj", x), Linear(name + "k_proj", x), Linear(name + "v_proj", x));
            }

            var heads = new List<Tensor>();
            for (var h = 0; h < FamilyCase.Heads; h++)
            {
                var g = h / (FamilyCase.Heads / shape.KeyHeads);
                var (query, key) = (Head(q, h), Head(k, g));
                if (shape.HeadNorm)
                {
                    (query, key) = (Rms(query, W(name + "q_norm.weight"), shape.Epsilon), Rms(key, W(name + "k_norm.weight"), shape.Epsilon));
                }

                heads.Add(Causal(Rotate(shape, query), Rotate(shape, key), Head(v, g)));
            }

            return Linear(name + "o_proj", cat(heads, 1));
        }

        Tensor Head(Tensor x, int head) => x.narrow(1, head * shape.HeadWidth, shape.HeadWidth);

        Tensor Linear(string name, Tensor x) => weights.ContainsKey(name + ".bias") ? matmul(x, W(name + ".weight").t()) + W(name + ".bias") : matmul(x, W(name + ".weight").t());

        Tensor W(string name) => weights[name].to(float64);
    })], 0);

    /// <summary>softmax(q k^T / sqrt(K)) v over the tokens so far: (T, K) each.</summary>
    public static Tensor Causal(Tensor q, Tensor k, Tensor v)
    {
        var future = ones(q.shape[0], q.shape[0], @bool).triu(1);
        return matmul(softmax((matmul(q, k.t()) / Math.Sqrt(q.shape[1])).masked_fill(future, double.NegativeInfinity), 1), v);
    }

    public static IEnumerable<Tensor> Rows(Tensor tokens) => Enumerable.Range(0, (int)tokens.shape[0]).Select(row => tokens[row]);

    private static Tensor Rms(Tensor x, Tensor weight, double epsilon) => weight * x / (x.square().mean([-1], keepdim: true) + epsilon).sqrt();

    private static (Tensor, Tensor) Halves(Tensor x) => (x.narrow(1, 0, x.shape[1] / 2), x.narrow(1, x.shape[1] / 2, x.shape[1] / 2));

    /// <summary>Rotates x (T, K), a token after the other.</summary>
    private static Tensor Rotate(PlainShape shape, Tensor x)
    {
        var rotated = x.clone();
        var pairs = shape.Frequencies.Length;
        for (var t = 0; t < x.shape[0]; t++)
        {
            for (var i = 0; i < pairs; i++)
            {
                var (a, b) = shape.IsInterleaved ? (2 * i, (2 * i) + 1) : (i, i + pairs);
                var angle = t * shape.Frequencies[i];
                rotated[t, a] = shape.Amplitude * ((x[t, a] * Math.Cos(angle)) - (x[t, b] * Math.Sin(angle)));
                rotated[t, b] = shape.Amplitude * ((x[t, b] * Math.Cos(angle)) + (x[t, a] * Math.Sin(angle)));
            }
        }

        return rotated;
    }
}

/// <summary>The equations of GPT-2: learned positions, layer norms with biases, transposed weights, an MLP with the tanh approximation of GELU, the head tied.</summary>
internal static class Gpt2Plain
{
    public static Dictionary<string, Tensor> Weights()
    {
        const int D = FamilyCase.Width, M = FamilyCase.Mlp;
        var weights = new Dictionary<string, Tensor>
        {
            ["transformer.wte.weight"] = PlainModel.Normal(float32, 1, FamilyCase.Vocabulary, D),
            ["transformer.wpe.weight"] = PlainModel.Normal(float32, 0.5, 16, D),
        };
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            var layer = $"transformer.h.{i}.";
            Add(layer + "ln_1", 1, 0.2, D);
            Add(layer + "attn.c_attn", 0, 1.5 / Math.Sqrt(D), D, 3 * D);
            Add(layer + "attn.c_proj", 0, 1.5 / Math.Sqrt(D), D, D);
            Add(layer + "ln_2", 1, 0.2, D);
            Add(layer + "mlp.c_fc", 0, 1.5 / Math.Sqrt(D), D, M);
            Add(layer + "mlp.c_proj", 0, 1.5 / Math.Sqrt(M), M, D);
            weights[layer + "attn.bias"] = ones(1, 1, 16, 16).tril();
        }

        Add("transformer.ln_f", 1, 0.2, D);
        return weights;

        void Add(string name, double mean, double deviation, params long[] shape)
        {
            weights[name + ".weight"] = mean + PlainModel.Normal(float32, deviation, shape);
            weights[name + ".bias"] = PlainModel.Normal(float32, 0.3, shape[^1]);
        }
    }

    public static Tensor Logits(Dictionary<string, Tensor> weights, Tensor tokens) => stack([.. PlainModel.Rows(tokens).Select(row =>
    {
        var x = W("transformer.wte.weight")[row] + W("transformer.wpe.weight").narrow(0, 0, row.shape[0]);
        for (var i = 0; i < FamilyCase.Layers; i++)
        {
            var layer = $"transformer.h.{i}.";
            var qkv = Linear(layer + "attn.c_attn", Norm(x, layer + "ln_1")).chunk(3, 1);
            var heads = Enumerable.Range(0, FamilyCase.Heads).Select(h => PlainModel.Causal(Head(qkv[0], h), Head(qkv[1], h), Head(qkv[2], h)));
            x += Linear(layer + "attn.c_proj", cat([.. heads], 1));
            x += Linear(layer + "mlp.c_proj", Gelu(Linear(layer + "mlp.c_fc", Norm(x, layer + "ln_2"))));
        }

        return matmul(Norm(x, "transformer.ln_f"), W("transformer.wte.weight").t());

        Tensor Norm(Tensor x, string name)
        {
            var centred = x - x.mean([-1], keepdim: true);
            return W(name + ".weight") * centred / (centred.square().mean([-1], keepdim: true) + 1e-5).sqrt() + W(name + ".bias");
        }

        Tensor Linear(string name, Tensor x) => matmul(x, W(name + ".weight")) + W(name + ".bias");

        Tensor W(string name) => weights[name].to(float64);
    })], 0);

    private static Tensor Head(Tensor x, int head) => x.narrow(1, head * FamilyCase.Width / FamilyCase.Heads, FamilyCase.Width / FamilyCase.Heads);

    private static Tensor Gelu(Tensor x) => 0.5 * x * (1 + tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x.pow(3)))));
}
