using System.Collections.Immutable;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;

namespace TraceProbe.Cluster.Api;

/// <summary>What a plugin gave.</summary>
/// <param name="Token">A token; null for none.</param>
/// <param name="Certificate">A client certificate with its key; null for none.</param>
/// <param name="Expires">Until when; without end when the plugin does not say, as client-go takes it.</param>
internal sealed record ExecCredential(string? Token, X509Certificate2? Certificate, DateTimeOffset Expires);

/// <summary>
/// A credential plugin: a program that prints an ExecCredential of client.authentication.k8s.io, v1 or v1beta1
/// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins).
/// </summary>
internal sealed class ExecPlugin
{
    private const int MostCharacters = 1 << 20;

    /// <summary>The version of client.authentication.k8s.io that it speaks, such as <c>client.authentication.k8s.io/v1</c>.</summary>
    public required string ApiVersion { get; init; }

    /// <summary>The program: a name to be found in PATH, or a path.</summary>
    public required string Command { get; init; }

    /// <summary>Its arguments.</summary>
    public ImmutableArray<string> Arguments { get; init; } = [];

    /// <summary>What it finds in its environment besides ours.</summary>
    public ImmutableArray<(string Name, string Value)> Environment { get; init; } = [];

    /// <summary>How to get it; null when the kubeconfig does not say.</summary>
    public string? InstallHint { get; init; }

    /// <summary>Whether it has to be able to ask a person.</summary>
    public bool NeedsPerson { get; init; }

    /// <summary>The cluster, as JSON, when it wants to know; null when not.</summary>
    public string? ClusterInfo { get; init; }

    /// <summary>How long it may take. A person may have to log in meanwhile.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Runs it.</summary>
    /// <exception cref="ApiException">It is not there, fails, or prints something else.</exception>
    public async Task<ExecCredential> RunAsync(CancellationToken cancellation)
    {
        var isTerminal = !Console.IsInputRedirected;
        if (NeedsPerson && !isTerminal)
        {
            throw new ApiException($"The credential plugin {Command} has to ask somebody (interactiveMode: Always), and standard input is no terminal.");
        }

        var start = new ProcessStartInfo(Command) { RedirectStandardOutput = true, RedirectStandardInput = !isTerminal, UseShellExecute = false };
        foreach (var argument in Arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in Environment)
        {
            start.Environment[name] = value;
        }

        var cluster = ClusterInfo is null ? "" : $",\"cluster\":{ClusterInfo}";
        start.Environment["KUBERNETES_EXEC_INFO"] = $"{{\"kind\":\"ExecCredential\",\"apiVersion\":\"{ApiVersion}\",\"spec\":{{\"interactive\":{(isTerminal ? "true" : "false")}{cluster}}}}}";
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Exception e) when (e is Win32Exception or IOException or InvalidOperationException)
        {
            throw new ApiException($"The credential plugin {Command} of the kubeconfig could not be started: {(e is Win32Exception { NativeErrorCode: 2 } ? "there is no such program." : e.Message.EndsWith('.') ? e.Message : $"{e.Message}.")}{(InstallHint is null ? " Install it, or use another context." : $" {InstallHint.Trim()}")}", e);
        }

        using var own = process;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(Timeout);
        var output = new char[MostCharacters];
        var length = 0;
        try
        {
            if (!isTerminal)
            {
                process.StandardInput.Close();
            }

            int read;
            while ((read = await process.StandardOutput.ReadAsync(output.AsMemory(length), limit.Token).ConfigureAwait(false)) > 0)
            {
                length += read;
                if (length == MostCharacters)
                {
                    process.Kill(entireProcessTree: true);
                    throw new ApiException($"The credential plugin {Command} prints more than {MostCharacters >> 20} MB.");
                }
            }

            await process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            cancellation.ThrowIfCancellationRequested();
            throw new ApiException($"The credential plugin {Command} did not end within {Timeout.TotalSeconds} s.");
        }

        return process.ExitCode == 0
            ? Parse(new string(output, 0, length))
            : throw new ApiException(string.Create(CultureInfo.InvariantCulture, $"The credential plugin {Command} failed with exit code {process.ExitCode}; what it said is above. Perhaps you have to log in again."));
    }

    // {"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"…","expirationTimestamp":"2026-01-02T03:04:05Z"}}
    private ExecCredential Parse(string text)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            var root = json.RootElement;
            if (root.GetProperty("kind").GetString() != "ExecCredential" || root.GetProperty("apiVersion").GetString() != ApiVersion)
            {
                throw new ApiException($"The credential plugin {Command} was to print an ExecCredential of {ApiVersion}, and printed a {root.GetProperty("kind")} of {root.GetProperty("apiVersion")}.");
            }

            var status = root.GetProperty("status");
            string? Text(string name) => status.TryGetProperty(name, out var value) && value.GetString() is { Length: > 0 } given ? given : null;
            var (token, certificate, key) = (Text("token"), Text("clientCertificateData"), Text("clientKeyData"));
            if (token is null && (certificate is null || key is null))
            {
                throw new ApiException($"The credential plugin {Command} printed neither a token nor a certificate with its key.");
            }

            return new ExecCredential(
                token,
                certificate is null || key is null ? null : X509Certificate2.CreateFromPem(certificate, key),
                status.TryGetProperty("expirationTimestamp", out var expires) && expires.ValueKind == JsonValueKind.String ? expires.GetDateTimeOffset() : DateTimeOffset.MaxValue);
        }
        catch (JsonException)
        {
            // What it printed may be the token itself, so it is not told, nor what the reader says of it, which holds a piece.
            throw new ApiException($"What the credential plugin {Command} printed is no ExecCredential, and no JSON.");
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException or CryptographicException)
        {
            throw new ApiException($"What the credential plugin {Command} printed is no ExecCredential: {e.Message}", e);
        }
    }
}
