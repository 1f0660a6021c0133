using BenchmarkDotNet.Running;

// dotnet run -c Release --project tests/TraceProbe.Benchmarks -- --filter '*' --job short --inProcess
BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
