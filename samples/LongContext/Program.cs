return await LongContext.Cli.Run(args);
