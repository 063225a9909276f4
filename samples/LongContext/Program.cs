using System.CommandLine;

var root = new RootCommand("Experiments with Infini-attention on long contexts.");
return root.Parse(args).Invoke();
