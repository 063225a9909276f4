namespace TorchSharp.ContractTests;

public class DisposeScopeTests
{
    [Fact]
    public void AScopeDisposesOfWhatWasMadeInIt()
    {
        Tensor made;
        using (NewDisposeScope()) made = zeros(2);
        Assert.True(made.IsInvalid);
        Assert.Throws<InvalidOperationException>(() => made.Handle);
    }

    [Fact]
    public void AMovedTensorLivesUntilTheOuterScopeEnds()
    {
        Tensor moved;
        using (NewDisposeScope()) {
            using (NewDisposeScope()) moved = ones(2).MoveToOuterDisposeScope();
            Assert.False(moved.IsInvalid);
        }
        Assert.True(moved.IsInvalid);
    }

    [Fact]
    public void MovedOutOfTheOutermostScopeItLivesOn()
    {
        Tensor moved;
        using (NewDisposeScope()) moved = ones(2).MoveToOuterDisposeScope();
        using (moved) Assert.False(moved.IsInvalid);
    }

    [Fact]
    public void ADetachedTensorLivesOn()
    {
        Tensor detached;
        using (NewDisposeScope()) {
            using (NewDisposeScope()) detached = ones(2).DetachFromDisposeScope();
        }
        using (detached) Near.Equal([1, 1], detached);
    }

    [Fact]
    public void AnAttachedTensorDiesWithItsNewScope()
    {
        var outside = ones(2);
        using (var scope = NewDisposeScope()) {
            scope.Attach(outside);
            Assert.True(scope.Contains(outside));
            Assert.Equal(1, scope.DisposablesCount);
        }
        Assert.True(outside.IsInvalid);
    }

    [Fact]
    public void MoveToOtherDisposeScopeFollowsAnotherTensor()
    {
        using var outer = NewDisposeScope();
        var anchor = ones(1);
        Tensor follower;
        using (NewDisposeScope()) follower = ones(2).MoveToOtherDisposeScope(anchor);
        Assert.False(follower.IsInvalid);
        Assert.True(outer.Contains(follower));
    }

    [Fact]
    public void DisposeEverythingButKeepsWhatIsNamed()
    {
        using var scope = NewDisposeScope();
        var kept = ones(1);
        var dropped = ones(1);
        scope.DisposeEverythingBut(kept);
        Assert.False(kept.IsInvalid);
        Assert.True(dropped.IsInvalid);
    }

    [Fact]
    public void ScopesMayEndInAnyOrder()
    {
        var outer = NewDisposeScope();
        var inner = NewDisposeScope();
        outer.Dispose();
        var made = ones(1);
        Assert.False(made.IsInvalid);
        inner.Dispose();
        Assert.True(made.IsInvalid);
        using var outside = ones(1);
        Assert.Null(CurrentDisposeScope);
    }

    [Fact]
    public void ScopesAreOfOneThread()
    {
        using var scope = NewDisposeScope();
        Tensor? elsewhere = null;
        var thread = new Thread(() => elsewhere = ones(1));
        thread.Start();
        thread.Join();
        Assert.False(scope.Contains(elsewhere!));
        elsewhere!.Dispose();
    }

    [Fact]
    public void StatisticsCountWhatLives()
    {
        var statistics = DisposeScopeManager.Statistics;
        statistics.Reset();
        var outside = ones(1);
        Assert.Equal(1, statistics.CreatedOutsideScopeCount);
        using (NewDisposeScope()) {
            _ = ones(1);
            ones(1).DetachFromDisposeScope().Dispose();
            Assert.Equal(2, statistics.CreatedInScopeCount);
            Assert.Equal(1, statistics.DetachedFromScopeCount);
            Assert.Equal(2, statistics.ThreadTotalLiveCount);
        }
        Assert.Equal(1, statistics.TensorStatistics.DisposedInScopeCount);
        Assert.Equal(1, statistics.ThreadTotalLiveCount);
        outside.Dispose();
        outside.Dispose();
        Assert.Equal(0, statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void AParameterTakesThePlaceOfItsTensor()
    {
        Tensor data;
        Parameter parameter;
        var statistics = DisposeScopeManager.Statistics;
        statistics.Reset();
        using (var scope = NewDisposeScope()) {
            data = ones(2);
            parameter = nn.Parameter(data);
            Assert.True(data.IsInvalid);
            Assert.True(scope.Contains(parameter));
            Assert.Equal(1, statistics.ThreadTotalLiveCount);
        }
        Assert.True(parameter.IsInvalid);
        Assert.Equal(0, statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void ZeroInPlaceMakesAnotherTensorOfTheSameMemory()
    {
        using var tensor = ones(2);
        using var zeroed = tensor.zero_();
        Assert.NotSame(tensor, zeroed);
        Near.Equal([0, 0], tensor);
    }

    [Fact]
    public void InPlaceOperatorsReturnTheTensorItself()
    {
        using var tensor = ones(2);
        Assert.Same(tensor, tensor.add_(1));
        Assert.Same(tensor, tensor.mul_(tensor));
        Assert.Same(tensor, tensor.fill_(7));
        Near.Equal([7, 7], tensor);
    }
}
