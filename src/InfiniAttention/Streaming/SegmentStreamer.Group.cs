using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>How a call is shared by the processes of a group.</content>
public sealed partial class SegmentStreamer
{
    /// <summary>What this process computes of a window: all of it, or a stretch.</summary>
    internal WindowPart PartOf((long Start, long Length) window) => sharing?.PartOf(states.Position, window) ?? new(window.Start, window.Length);

    /// <summary>Runs this process's part of a window, after which every rank has the state at the window's end.</summary>
    private Tensor RunPart(Tensor input, TokenInfo? info, WindowPart part)
    {
        using var stretch = sharing?.Begin(part, info);
        var output = RunWindow(input, info, (part.Start, part.Length), stretch: stretch);
        sharing?.Settle(states, part, IsRandom);
        return output;
    }

    /// <summary>Runs a window and returns the outputs of all its tokens.</summary>
    private Tensor RunWhole(Tensor input, TokenInfo? info, (long Start, long Length) window)
    {
        var part = PartOf(window);
        var output = RunPart(input, info, part);
        return part.IsShared ? sharing!.Joined(output, part, window) : output;
    }

    /// <summary>Whether the model draws random numbers.</summary>
    internal bool IsRandom => model.modules().Prepend(model).Any(module => module.training);

    /// <summary>Checks the input of a call that computes outputs.</summary>
    private void CheckReading(Tensor input, ref TokenInfo? info) => Agree(input, ref info, given =>
    {
        if (sharing is not null && is_grad_enabled()
            && (input.requires_grad || given?.WriteWeights?.requires_grad == true || model.parameters().Any(parameter => parameter.requires_grad)))
        {
            throw new InvalidOperationException(
                "Gradients are on, and the outputs that a group's ranks compute have no common graph: read inside no_grad, and train with Backpropagate, which does every rank's part.");
        }
    });

    /// <summary>Checks the arguments of a call; in a group, that every rank accepts them and all are the same.</summary>
    /// <param name="input">The input.</param>
    /// <param name="info">What is known about its tokens.</param>
    /// <param name="further">Checks what the call needs beyond that.</param>
    /// <param name="numbers">In a group, what else must be the same on every rank.</param>
    private void Agree(Tensor input, ref TokenInfo? info, Action<TokenInfo?> further, Func<double[]>? numbers = null)
    {
        var given = info;
        if (sharing is null)
        {
            CheckInput(input, ref given);
            further(given);
        }
        else
        {
            sharing.Agree(
                () =>
                {
                    CheckInput(input, ref given);
                    further(given);
                },
                () =>
                [
                    states.Position, windowTokens, IsRandom ? 1 : 0, is_grad_enabled() ? 1 : 0,
                    .. new[] { input, given?.KeyPaddingMask, given?.DocumentStarts, given?.WriteWeights }.Select(Agreement.Fingerprint),
                    .. numbers?.Invoke() ?? [],
                ]);
        }

        info = given;
    }

    /// <summary>Throws if a call is cancelled, in a group on every rank if it is on one.</summary>
    internal void ThrowIfCancelled(CancellationToken token)
    {
        if (sharing?.IsAny(token.IsCancellationRequested) ?? token.IsCancellationRequested)
        {
            throw new OperationCanceledException(token);
        }
    }
}
