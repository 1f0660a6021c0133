using BenchmarkDotNet.Running;
using TraceProbe.Benchmarks;

// dotnet run -c Release --project tests/TraceProbe.Benchmarks -- --filter '*' --job short --inProcess
// dotnet run -c Release --project tests/TraceProbe.Benchmarks -- api
// dotnet run -c Release --project tests/TraceProbe.Benchmarks -- rules [SERVICES [ENDPOINTS]]
switch (args)
{
    case ["rules", .. var size]:
        return RuleReading.Compare(size);
    case ["api"]:
        return await ApiReading.RunAsync();
    case ["api-server"]:
        return await ApiReading.ServeAsync();
    case ["read-rules", var tool, var dump, var objects]:
        return RuleReading.Measure(tool, dump, objects);
    default:
        BenchmarkSwitcher.FromAssembly(typeof(RuleReading).Assembly).Run(args);
        return 0;
}
