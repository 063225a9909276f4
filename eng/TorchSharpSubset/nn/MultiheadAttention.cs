using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    namespace Modules
    {
        /// <summary>Sequence first: (T, B, E). Its weights are its own parameters, "out_proj.weight" too: there is no module out_proj.</summary>
        public sealed class MultiheadAttention : nn.Module<Tensor, Tensor, Tensor, Tensor?, bool, Tensor?, Tuple<Tensor, Tensor>>
        {
            private readonly long width;
            private readonly long heads;
            private readonly double dropout;

            internal MultiheadAttention(long width, long heads, double dropout, bool bias, long keyWidth, long valueWidth) : base(nameof(MultiheadAttention))
            {
                if (width % heads != 0) throw new System.Runtime.InteropServices.ExternalException("embed_dim must be divisible by num_heads");
                (this.width, this.heads, this.dropout) = (width, heads, dropout);
                if (keyWidth == width && valueWidth == width) {
                    Weight("in_proj_weight", 3 * width, width);
                } else {
                    Weight("q_proj_weight", width, width);
                    Weight("k_proj_weight", width, keyWidth);
                    Weight("v_proj_weight", width, valueWidth);
                }
                if (bias) Register("in_proj_bias", zeros(3 * width));
                Register("out_proj.weight", nn.init.kaiming_uniform_(empty(width, width), Math.Sqrt(5)));
                if (bias) Register("out_proj.bias", zeros(width));
            }

            private void Weight(string name, long rows, long columns) => Register(name, nn.init.xavier_uniform_(empty(rows, columns)));

            private void Register(string name, Tensor tensor) => register_parameter(name, (Parameter)nn.Parameter(tensor).DetachFromDisposeScope());

            public override Tuple<Tensor, Tensor> forward(Tensor query, Tensor key, Tensor value, Tensor? key_padding_mask, bool need_weights, Tensor? attn_mask)
            {
                using var scope = NewDisposeScope();
                long rows = query.shape[0], columns = key.shape[0], batch = query.shape[1], headWidth = width / heads;
                Tensor Heads(Tensor x, long length) => x.reshape(length, batch * heads, headWidth).transpose(0, 1);   // (B H, T, E / H)
                var q = Heads(Projected(0, "q", query) * (1 / Math.Sqrt(headWidth)), rows);
                var k = Heads(Projected(1, "k", key), columns);
                var v = Heads(Projected(2, "v", value), columns);
                var scores = bmm(q, k.transpose(1, 2));
                if (attn_mask is not null)
                    scores = attn_mask.dtype == ScalarType.Bool ? scores.masked_fill(attn_mask, double.NegativeInfinity) : scores + attn_mask;
                if (key_padding_mask is not null)
                    scores = scores.view(batch, heads, rows, columns)
                        .masked_fill(key_padding_mask.to(ScalarType.Bool).view(batch, 1, 1, columns), double.NegativeInfinity).view(batch * heads, rows, columns);
                var weights = nn.functional.dropout(scores.softmax(-1), dropout, training);
                var output = nn.functional.linear(bmm(weights, v).transpose(0, 1).reshape(rows, batch, width), get_parameter("out_proj.weight")!, get_parameter("out_proj.bias"));
                output.MoveToOuterDisposeScope();
                var mean = need_weights ? weights.view(batch, heads, rows, columns).mean([1]).MoveToOuterDisposeScope() : new Tensor(IntPtr.Zero);
                return Tuple.Create(output, mean);
            }

            public new Tuple<Tensor, Tensor> call(Tensor query, Tensor key, Tensor value, Tensor? key_padding_mask = null, bool need_weights = true, Tensor? attn_mask = null) =>
                base.call(query, key, value, key_padding_mask, need_weights, attn_mask);

            private Tensor Projected(long part, string name, Tensor input)
            {
                var weight = get_parameter("in_proj_weight")?.narrow(0, part * width, width) ?? get_parameter($"{name}_proj_weight")!;
                return nn.functional.linear(input, weight, get_parameter("in_proj_bias")?.narrow(0, part * width, width));
            }
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static MultiheadAttention MultiheadAttention(long embedded_dim, long num_heads, double dropout = 0.0, bool bias = true, bool add_bias_kv = false, bool add_zero_attn = false, long? kdim = null, long? vdim = null) =>
                add_bias_kv || add_zero_attn
                    ? throw new NotSupportedException("add_bias_kv and add_zero_attn are not in this subset of TorchSharp.")
                    : new MultiheadAttention(embedded_dim, num_heads, dropout, bias, kdim ?? embedded_dim, vdim ?? embedded_dim);
        }
    }
}
