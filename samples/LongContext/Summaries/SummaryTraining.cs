using LongContext.Comparison;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Summaries;

/// <summary>
/// Trains a decoder to write summaries: first on inputs of one segment, then on longer ones, through which gradients flow. The loss is the mean over the tokens of the answers plus the
/// mean over all tokens.
/// </summary>
public sealed class SummaryTraining(ContextDecoder model, SummaryExamples examples, SummarySettings settings)
    : Training(model, new(settings.BaseSteps + settings.Steps, settings.Rate, IsCooledDown: true))
{
    private const int StepTokens = 1024;

    protected override bool BeginsDocuments(int step) => true;

    protected override (double Loss, double RecallLoss) Backpropagate(int step)
    {
        Model.Forget();
        var length = settings.LengthOf(step);
        var rows = Math.Max(1, StepTokens / length);
        var (documents, all, answers) = (new Document[rows], new float[rows * length], new float[rows * length]);
        for (var row = 0; row < rows; row++)
        {
            var example = examples.Training(settings.Seed, ((long)step * StepTokens) + row, length + 1);
            var (begin, end) = (example.Prompt.Length, example.Prompt.Length + example.Answer.Length);
            documents[row] = new((ushort[])[.. example.Prompt, .. example.Answer, .. Enumerable.Repeat(examples.Encoding.End, length + 1 - end)]);
            all.AsSpan(row * length, end - 1).Fill(1);
            answers.AsSpan((row * length) + begin - 1, end - begin).Fill(1);
        }

        DocumentBatch batch = new(documents);
        var losses = nn.functional.cross_entropy(Model.call(batch.Inputs(0, length)).flatten(0, 1), batch.Targets(0, length).flatten(), reduction: nn.Reduction.None);
        var (loss, answerLoss) = (Mean(all), Mean(answers));
        loss.add(answerLoss, Numbers.One).backward();
        return (loss.item<float>(), answerLoss.item<float>());

        Tensor Mean(float[] weights)
        {
            var sum = weights.Sum();
            return losses.dot(tensor(Array.ConvertAll(weights, weight => weight / sum)));
        }
    }
}
