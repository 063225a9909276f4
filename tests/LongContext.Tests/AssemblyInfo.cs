// Seeds, threads and the console are process-wide.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
