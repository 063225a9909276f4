using static TorchSharp.torch;

namespace InfiniAttention;

public sealed partial class InfiniAttentionModule
{
    /// <summary>Throws if the layer does not accept an argument, before anything is computed.</summary>
    private void Check(MemoryState? state, Tensor x, TokenInfo? info)
    {
        ArgumentNullException.ThrowIfNull(x);
        if (x.dim() != 3 || x.size(2) != Options.EmbedDim || x.size(0) < 1 || x.size(1) < 1)
        {
            throw new ArgumentException($"x has shape {Describe.Shape(x)}; it must be (B, T, D) with at least one row and one token, and D = {Options.EmbedDim}.", nameof(x));
        }

        if (x.dtype != gate.dtype)
        {
            throw new ArgumentException($"x has type {x.dtype}; it must be {gate.dtype}, like the layer.", nameof(x));
        }

        if (!Describe.SameDevice(x, gate))
        {
            throw new ArgumentException($"x is on {x.device}; it must be on {gate.device}, like the layer.", nameof(x));
        }

        info?.Validate(x.size(0), x.size(1), x.device, MemoryState.TypeFor(x.dtype));
        if (state is not null)
        {
            CheckState(state, x);
        }
    }

    private void CheckState(MemoryState state, Tensor x)
    {
        state.ThrowIfDisposed();
        var memory = state.Memory;
        var stateType = MemoryState.TypeFor(x.dtype);
        if (memory.size(0) != x.size(0) || memory.size(1) != Options.KeyValueHeads || memory.size(2) != Options.KeyWidth || memory.size(3) != Options.ValueWidth)
        {
            throw new ArgumentException(
                $"state has a memory of shape {Describe.Shape(memory)}; it must be (B, G, K, V) = ({x.size(0)}, {Options.KeyValueHeads}, {Options.KeyWidth}, {Options.ValueWidth}).",
                nameof(state));
        }

        if (memory.dtype != stateType)
        {
            throw new ArgumentException($"state has type {memory.dtype}; it must be {stateType} for an input of type {x.dtype}.", nameof(state));
        }

        if (!Describe.SameDevice(memory, x))
        {
            throw new ArgumentException($"state is on {memory.device}; it must be on {x.device}, like x: move it with To.", nameof(state));
        }

        if ((state.Open?.Length ?? 0) != state.Position % Options.SegmentLength)
        {
            throw new ArgumentException($"state is at position {state.Position} with {state.Open?.Length ?? 0} tokens in its open segment; "
                + $"it does not fit a layer whose SegmentLength is {Options.SegmentLength}.", nameof(state));
        }

        if (state.LayerType is { } type && type != x.dtype)
        {
            throw new ArgumentException($"state holds tokens of type {type}; they must be {x.dtype}, like the layer: convert it with To.", nameof(state));
        }

        if (state.Open is { } open && open.OtherKeys != (Options.HasOtherLocalKeys, Options.HasOtherPassedKeys))
        {
            throw new ArgumentException(
                "state has an open segment of a layer with another Rotary, OwnMemoryProjections or LocalSegments; "
                    + $"this layer's are {Options.Rotary?.ToString() ?? "null"}, {Options.OwnMemoryProjections} and {Options.LocalSegments}.",
                nameof(state));
        }

        if (state.Earlier is { } earlier && (Options.LocalSegments == 1 || earlier.Keys.size(2) != Options.SegmentLength))
        {
            throw new ArgumentException(
                $"state has a segment of {earlier.Keys.size(2)} tokens in view; the layer, "
                    + $"whose LocalSegments is {Options.LocalSegments} and whose SegmentLength is {Options.SegmentLength}, has none or another.",
                nameof(state));
        }
    }
}
