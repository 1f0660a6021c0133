using System.Text.Json;

namespace TraceProbe.Cluster.Api;

/// <summary>Whose a token is.</summary>
/// <param name="User">The user's name.</param>
/// <param name="Uid">Its identifier; empty when it has none.</param>
/// <param name="Groups">Its groups.</param>
public sealed record TokenOwner(string User, string Uid, IReadOnlyList<string> Groups);

/// <summary>Asks the cluster whose a token is and what its owner may do.</summary>
public static class AccessReviews
{
    /// <summary>Whose a token is, by TokenReview (authentication.k8s.io/v1).</summary>
    /// <returns>The owner; null when the cluster does not accept the token.</returns>
    /// <exception cref="ApiException">The cluster cannot be asked, or this user may not ask it.</exception>
    public static async Task<TokenOwner?> ReviewTokenAsync(this ApiClient client, string token, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(client);
        using var answer = await AskAsync(client, "/apis/authentication.k8s.io/v1/tokenreviews", json =>
        {
            json.WriteString("apiVersion", "authentication.k8s.io/v1");
            json.WriteString("kind", "TokenReview");
            json.WriteStartObject("spec");
            json.WriteString("token", token);
            json.WriteEndObject();
        }, cancellation).ConfigureAwait(false);
        var status = StatusOf(answer);
        if (!Flag(status, "authenticated") || !status.TryGetProperty("user", out var user) || Text(user, "username") is not { Length: > 0 } name)
        {
            return null;
        }

        return new TokenOwner(name, Text(user, "uid") ?? "",
            user.TryGetProperty("groups", out var groups) && groups.ValueKind == JsonValueKind.Array ? [.. groups.EnumerateArray().Select(g => g.GetString()).OfType<string>()] : []);
    }

    /// <summary>Whether somebody may do something, by SubjectAccessReview (authorization.k8s.io/v1).</summary>
    /// <param name="client">Asks.</param>
    /// <param name="owner">Who.</param>
    /// <param name="verb">The verb: <c>get</c>, <c>create</c>.</param>
    /// <param name="resource">The resource of the core group, with its subresource: <c>pods/exec</c>.</param>
    /// <param name="ns">The namespace; null for all.</param>
    /// <param name="name">The object; null for any.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="ApiException">The cluster cannot be asked, or this user may not ask it.</exception>
    public static async Task<(bool IsAllowed, string? Reason)> MayAsync(this ApiClient client, TokenOwner owner, string verb, string resource, string? ns, string? name, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(owner);
        ArgumentNullException.ThrowIfNull(resource);
        using var answer = await AskAsync(client, "/apis/authorization.k8s.io/v1/subjectaccessreviews", json =>
        {
            json.WriteString("apiVersion", "authorization.k8s.io/v1");
            json.WriteString("kind", "SubjectAccessReview");
            json.WriteStartObject("spec");
            json.WriteString("user", owner.User);
            json.WriteString("uid", owner.Uid);
            json.WriteStartArray("groups");
            foreach (var group in owner.Groups)
            {
                json.WriteStringValue(group);
            }

            json.WriteEndArray();
            json.WriteStartObject("resourceAttributes");
            var parts = resource.Split('/', 2);
            json.WriteString("verb", verb);
            json.WriteString("resource", parts[0]);
            if (parts.Length > 1)
            {
                json.WriteString("subresource", parts[1]);
            }

            json.WriteString("namespace", ns ?? "");
            json.WriteString("name", name ?? "");
            json.WriteEndObject();
            json.WriteEndObject();
        }, cancellation).ConfigureAwait(false);
        var status = StatusOf(answer);
        return (Flag(status, "allowed") && !Flag(status, "denied"), Text(status, "reason"));
    }

    private static async Task<JsonDocument> AskAsync(ApiClient client, string path, Action<Utf8JsonWriter> write, CancellationToken cancellation)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        return await client.CreateAsync(path, buffer.ToArray(), cancellation).ConfigureAwait(false);
    }

    private static JsonElement StatusOf(JsonDocument answer)
        => answer.RootElement.ValueKind == JsonValueKind.Object && answer.RootElement.TryGetProperty("status", out var status) && status.ValueKind == JsonValueKind.Object ? status
            : throw new ApiException("The API server answered a review without a status.");

    private static bool Flag(JsonElement of, string name) => of.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;

    private static string? Text(JsonElement of, string name) => of.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
