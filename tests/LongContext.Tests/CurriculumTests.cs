using LongContext.Passkey;

namespace LongContext.Tests;

public class CurriculumTests
{
    [Fact]
    public void Inputs_stay_within_5K_tokens() => Assert.Equal(5120, 128 * Curriculum.LongestInput);

    [Fact]
    public void Stages_are_passed_by_accuracy_and_the_last_one_ends_with_a_decay()
    {
        var standing = new Curriculum.Standing();
        var (stages, rates) = (new List<int>(), new List<double>());
        while (!standing.IsFinished)
        {
            rates.Add(standing.Rate);
            standing = standing.After(1);
            stages.Add(standing.Stage);
        }

        Assert.Equal(Enumerable.Range(0, Curriculum.Stages.Count), stages.Distinct());
        Assert.All(stages.GroupBy(stage => stage), stage => Assert.InRange(stage.Count(), Curriculum.LeastStepsInStage - 1, int.MaxValue));
        Assert.Equal(1.0 / Curriculum.WarmUpSteps, rates[0], 12);
        Assert.Equal(1, rates.Max());
        Assert.Equal(Curriculum.FinalRate, rates[^1], 12);
        Assert.Equal(standing.DecayFrom + Curriculum.DecaySteps, standing.Step);
    }

    [Fact]
    public void The_last_stage_ends_even_if_it_is_not_passed()
    {
        var standing = new Curriculum.Standing(Step: 2000, Stage: Curriculum.Stages.Count - 1);
        while (standing.DecayFrom is null)
        {
            standing = standing.After(0.5);
        }

        Assert.Equal(Curriculum.MostStepsInLastStage, standing.StepsInStage);
    }

    [Fact]
    public void A_model_that_learns_nothing_stays_in_the_first_stage()
    {
        var standing = new Curriculum.Standing();
        for (var step = 0; step < 1000; step++)
        {
            standing = standing.After(0.1);
        }

        Assert.Equal((0, null), (standing.Stage, standing.DecayFrom));
    }
}
