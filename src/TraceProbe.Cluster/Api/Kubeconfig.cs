using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// What kubeconfig files say, merged as kubectl merges them: of clusters, users and contexts with one name, and of current contexts, the
/// first file's counts; paths are relative to the file that they stand in
/// (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files).
/// </summary>
public sealed class Kubeconfig
{
    private const int MostBytes = 16 << 20;

    private readonly Dictionary<string, Entry> _clusters = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Entry> _users = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Entry> _contexts = new(StringComparer.Ordinal);
    private readonly List<string> _files = [];

    private Kubeconfig()
    {
    }

    private sealed record Entry(string Name, JsonElement Value, string File);

    /// <summary>The context that is meant where none is named; null when the files do not say.</summary>
    public string? CurrentContext { get; private set; }

    /// <summary>The contexts' names.</summary>
    public IReadOnlyCollection<string> Contexts => _contexts.Keys;

    /// <summary>
    /// The kubeconfig that kubectl would use: the given file, else those of <c>$KUBECONFIG</c> (whichever are there), else
    /// <c>~/.kube/config</c>. Null when there is none.
    /// </summary>
    /// <exception cref="ApiException">A file cannot be read, or holds something else.</exception>
    public static Kubeconfig? Find(string? file)
    {
        if (file is not null)
        {
            return Load(File.Exists(file) ? [file] : throw new ApiException(Directory.Exists(file) ? $"{file} is a folder and no kubeconfig." : $"There is no kubeconfig {file}."));
        }

        if (Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } list)
        {
            var files = list.Split(':', StringSplitOptions.RemoveEmptyEntries);
            return files.Any(File.Exists) ? Load(files) : throw new ApiException($"None of the files of $KUBECONFIG is there: {string.Join(", ", files)}.");
        }

        var usual = Path.Combine(Environment.GetEnvironmentVariable("HOME") ?? "/", ".kube", "config");
        return File.Exists(usual) ? Load([usual]) : null;
    }

    /// <summary>Reads and merges files, the first of which counts most. Files that are not there are passed over.</summary>
    /// <exception cref="ApiException">A file cannot be read, or holds something else.</exception>
    public static Kubeconfig Load(IEnumerable<string> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        var merged = new Kubeconfig();
        foreach (var file in files.Where(File.Exists))
        {
            merged.Add(file);
        }

        return merged;
    }

    /// <summary>The server of a context.</summary>
    /// <param name="context">The context; null for the current one.</param>
    /// <exception cref="ApiException">There is no such context, or what it names is not there or incomplete.</exception>
    public ApiServer ServerOf(string? context = null)
    {
        var where = string.Join(':', _files);
        var name = context ?? CurrentContext;
        if (string.IsNullOrEmpty(name))
        {
            throw new ApiException(_contexts.Count == 0 ? $"The kubeconfig {where} has no contexts."
                : $"The kubeconfig {where} has no current context; choose one with --context: {string.Join(", ", _contexts.Keys.Order(StringComparer.Ordinal).Take(20))}.");
        }

        var chosen = Named("context", _contexts, name, where);
        var from = $"context {name} of {chosen.File}";
        var clusterName = Text(chosen, "cluster") ?? throw new ApiException($"{chosen.File}: context {name} names no cluster.");
        var cluster = Named("cluster", _clusters, clusterName, from);
        var server = Text(cluster, "server");
        if (!Uri.TryCreate(server is not null && !server.Contains("://", StringComparison.Ordinal) ? $"https://{server}" : server, UriKind.Absolute, out var url) || url.Scheme is not ("https" or "http"))
        {
            throw new ApiException($"{cluster.File}: the server of cluster {clusterName} is no http or https URL: {server ?? "(none)"}.");
        }

        var userName = Text(chosen, "user");
        var user = string.IsNullOrEmpty(userName) ? null : Named("user", _users, userName, from);
        var authorities = Data(cluster, "certificate-authority");
        var isInsecure = cluster.Value.TryGetProperty("insecure-skip-tls-verify", out var skip) && skip.ValueKind == JsonValueKind.True;
        return new ApiServer
        {
            Url = url,
            From = from,
            Cluster = clusterName,
            Namespace = Text(chosen, "namespace") is { Length: > 0 } ns ? ns : "default",
            Authorities = authorities is null || isInsecure ? null : ApiServer.Certificates($"{cluster.File}: certificate-authority of cluster {clusterName}", authorities),
            IsInsecure = isInsecure,
            TlsServerName = Text(cluster, "tls-server-name"),
            Proxy = Text(cluster, "proxy-url") is not { Length: > 0 } proxy ? null : Uri.TryCreate(proxy, UriKind.Absolute, out var through) && through.Scheme is "http" or "https" or "socks5"
                ? through : throw new ApiException($"{cluster.File}: the proxy-url of cluster {clusterName} is no http, https or socks5 URL: {proxy}."),
            Credentials = user is null ? new Credentials() : CredentialsOf(user, cluster),
            Impersonation = user is null ? [] : Impersonation(user),
        };
    }

    private void Add(string file)
    {
        var path = Path.GetFullPath(file);
        JsonElement root;
        try
        {
            if (new FileInfo(path).Length > MostBytes)
            {
                throw new ApiException($"{path} is too large to be a kubeconfig.");
            }

            var text = File.ReadAllBytes(path);
            using var json = JsonDocument.Parse(text.AsSpan().Trim(" \t\r\n"u8).IsEmpty ? "null"u8.ToArray() : YamlJson.Convert(path, text));
            root = json.RootElement.Clone();
        }
        catch (Exception e) when (e is FormatException or JsonException or IOException or UnauthorizedAccessException)
        {
            throw new ApiException(e is FormatException ? e.Message : $"The kubeconfig {path} cannot be read: {e.Message}", e);
        }

        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new ApiException(root.ValueKind == JsonValueKind.Null ? $"The kubeconfig {path} is empty." : $"{path} is no kubeconfig.");
        }

        _files.Add(path);
        AddNamed(path, root, "clusters", "cluster", _clusters);
        AddNamed(path, root, "users", "user", _users);
        AddNamed(path, root, "contexts", "context", _contexts);
        CurrentContext ??= root.TryGetProperty("current-context", out var current) && TextOf(current) is { Length: > 0 } name ? name : null;
    }

    private static void AddNamed(string path, JsonElement root, string list, string member, Dictionary<string, Entry> into)
    {
        if (!root.TryGetProperty(list, out var entries) || entries.ValueKind == JsonValueKind.Null)
        {
            return;
        }

        if (entries.ValueKind != JsonValueKind.Array)
        {
            throw new ApiException($"{path}: {list} is no list.");
        }

        var inThisFile = new HashSet<string>(StringComparer.Ordinal);
        foreach (var entry in entries.EnumerateArray())
        {
            if (entry.ValueKind != JsonValueKind.Object || !entry.TryGetProperty("name", out var given) || TextOf(given) is not { Length: > 0 } name)
            {
                throw new ApiException($"{path}: an entry of {list} has no name.");
            }

            if (!inThisFile.Add(name))
            {
                throw new ApiException($"{path}: {list} has {name} twice.");
            }

            into.TryAdd(name, new Entry(name, entry.TryGetProperty(member, out var value) && value.ValueKind == JsonValueKind.Object ? value : default, path));
        }
    }

    private static Entry Named(string what, Dictionary<string, Entry> entries, string name, string where)
    {
        if (entries.TryGetValue(name, out var entry))
        {
            return entry.Value.ValueKind == JsonValueKind.Object ? entry : throw new ApiException($"{entry.File}: {what} {name} is empty.");
        }

        var near = NearestNames.Of(name, entries.Keys);
        var hint = near.IsEmpty ? entries.Count == 0 ? "" : $" There {(entries.Count == 1 ? "is" : "are")}: {string.Join(", ", entries.Keys.Order(StringComparer.Ordinal).Take(20))}." : $" The nearest: {string.Join(", ", near)}.";
        throw new ApiException($"There is no {what} {name} ({where}).{hint}");
    }

    private static Credentials CredentialsOf(Entry user, Entry cluster)
    {
        if (user.Value.TryGetProperty("auth-provider", out var provider) && provider.ValueKind == JsonValueKind.Object)
        {
            throw new ApiException($"{user.File}: user {user.Name} has an auth-provider, which Kubernetes removed in 1.26; use a credential plugin (exec) or a token.");
        }

        var (certificate, key) = (Data(user, "client-certificate"), Data(user, "client-key"));
        X509Certificate2? pair = null;
        if (certificate is not null || key is not null)
        {
            try
            {
                pair = X509Certificate2.CreateFromPem(certificate ?? throw new ApiException($"{user.File}: user {user.Name} has a client-key without a client-certificate."),
                    key ?? throw new ApiException($"{user.File}: user {user.Name} has a client-certificate without a client-key."));
            }
            catch (Exception e) when (e is CryptographicException or ArgumentException)
            {
                throw new ApiException($"{user.File}: the client certificate of user {user.Name} cannot be used: {e.Message}", e);
            }
        }

        var tokenFile = Text(user, "tokenFile");
        return new Credentials
        {
            User = user.Name,
            Certificate = pair,
            Token = Text(user, "token") is { Length: > 0 } token ? token.Trim() : null,
            TokenFile = string.IsNullOrEmpty(tokenFile) ? null : PathBeside(user.File, tokenFile),
            Basic = Text(user, "username") is { Length: > 0 } name ? (name, Text(user, "password") ?? "") : null,
            Plugin = user.Value.TryGetProperty("exec", out var exec) && exec.ValueKind == JsonValueKind.Object ? PluginOf(user with { Value = exec }, cluster) : null,
        };
    }

    private static ExecPlugin PluginOf(Entry exec, Entry cluster)
    {
        var command = Text(exec, "command") is { Length: > 0 } given ? given : throw new ApiException($"{exec.File}: the exec of user {exec.Name} has no command.");
        var version = Text(exec, "apiVersion");
        if (version is not ("client.authentication.k8s.io/v1" or "client.authentication.k8s.io/v1beta1"))
        {
            throw new ApiException($"{exec.File}: the exec of user {exec.Name} speaks {version ?? "no apiVersion"}; known are client.authentication.k8s.io/v1 and v1beta1. Update the plugin and the kubeconfig.");
        }

        return new ExecPlugin
        {
            ApiVersion = version,
            // A bare name is looked up in PATH; anything else is a path.
            Command = command.Contains('/', StringComparison.Ordinal) ? PathBeside(exec.File, command) : command,
            Arguments = Strings(exec.Value, "args"),
            Environment = exec.Value.TryGetProperty("env", out var env) && env.ValueKind == JsonValueKind.Array
                ? [.. env.EnumerateArray().Where(e => e.ValueKind == JsonValueKind.Object).Select(e => (Text(exec with { Value = e }, "name") ?? "", Text(exec with { Value = e }, "value") ?? "")).Where(e => e.Item1.Length > 0)] : [],
            InstallHint = Text(exec, "installHint"),
            NeedsPerson = Text(exec, "interactiveMode") == "Always",
            ClusterInfo = exec.Value.TryGetProperty("provideClusterInfo", out var tell) && tell.ValueKind == JsonValueKind.True ? ClusterInfo(cluster) : null,
        };
    }

    // client.authentication.k8s.io Cluster: the kubeconfig's, with the certificates in it.
    private static string ClusterInfo(Entry cluster)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            foreach (var name in (string[])["server", "tls-server-name", "proxy-url"])
            {
                if (Text(cluster, name) is { Length: > 0 } value)
                {
                    json.WriteString(name, value);
                }
            }

            if (cluster.Value.TryGetProperty("insecure-skip-tls-verify", out var skip) && skip.ValueKind == JsonValueKind.True)
            {
                json.WriteBoolean("insecure-skip-tls-verify", true);
            }

            if (Data(cluster, "certificate-authority") is { } authority)
            {
                json.WriteBase64String("certificate-authority-data", Encoding.UTF8.GetBytes(authority));
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.ToArray());
    }

    private static ImmutableArray<(string, string)> Impersonation(Entry user)
    {
        if (Text(user, "as") is not { Length: > 0 } name)
        {
            return [];
        }

        return
        [
            ("Impersonate-User", name),
            .. Text(user, "as-uid") is { Length: > 0 } uid ? [("Impersonate-Uid", uid)] : Array.Empty<(string, string)>(),
            .. Strings(user.Value, "as-groups").Select(g => ("Impersonate-Group", g)),
        ];
    }

    // "certificate-authority-data" holds what the file that "certificate-authority" names holds, in base64, and counts before it.
    private static string? Data(Entry entry, string name)
    {
        if (Text(entry, $"{name}-data") is { Length: > 0 } data)
        {
            try
            {
                return Encoding.UTF8.GetString(Convert.FromBase64String(data));
            }
            catch (FormatException e)
            {
                throw new ApiException($"{entry.File}: {name}-data of {entry.Name} is not base64.", e);
            }
        }

        if (Text(entry, name) is not { Length: > 0 } file)
        {
            return null;
        }

        var path = PathBeside(entry.File, file);
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ApiException($"{entry.File}: {name} of {entry.Name} cannot be read: {e.Message}", e);
        }
    }

    private static string PathBeside(string file, string path) => Path.GetFullPath(path, Path.GetDirectoryName(file)!);

    private static ImmutableArray<string> Strings(JsonElement parent, string name)
        => parent.TryGetProperty(name, out var list) && list.ValueKind == JsonValueKind.Array ? [.. list.EnumerateArray().Select(TextOf).OfType<string>()] : [];

    private static string? Text(Entry entry, string name) => entry.Value.TryGetProperty(name, out var value) ? TextOf(value) : null;

    // What YAML takes for a number or a truth was a word to whoever wrote it.
    private static string? TextOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => value.GetString(),
        JsonValueKind.Number or JsonValueKind.True or JsonValueKind.False => value.GetRawText(),
        _ => null,
    };
}
