using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using TraceProbe.Cluster.Api;

namespace TraceProbe.Agent.Api;

/// <summary>What somebody wants to do, in the words of the cluster's authorization.</summary>
/// <param name="Verb">The verb.</param>
/// <param name="Resource">The resource, with its subresource: <c>pods/exec</c>.</param>
/// <param name="Namespace">The namespace; null for all.</param>
/// <param name="Name">The object; null for any.</param>
internal readonly record struct AccessAsked(string Verb, string Resource, string? Namespace = null, string? Name = null)
{
    public override string ToString() => $"{Verb} {Resource}{(Name is null ? "" : $" {Name}")}{(Namespace is null ? " in all namespaces" : $" in namespace {Namespace}")}";
}

/// <summary>
/// Who may do what with an agent: the cluster says it, by TokenReview (authentication.k8s.io/v1) and SubjectAccessReview (authorization.k8s.io/v1). An answer holds for
/// a few seconds. When the cluster cannot be asked, nobody may.
/// </summary>
/// <param name="client">Asks the cluster; null when there is none to ask.</param>
internal sealed class ApiAccess(ApiClient? client)
{
    private const int MostRemembered = 1_000;

    private static readonly TimeSpan Holds = TimeSpan.FromSeconds(10);

    private readonly ConcurrentDictionary<(string Token, AccessAsked Asked), (long At, Refusal? Refusal)> _known = [];

    /// <summary>Why a token's owner may not do something; null when they may.</summary>
    public async Task<Refusal?> RefuseAsync(string? token, AccessAsked asked, CancellationToken cancellation)
    {
        if (string.IsNullOrEmpty(token))
        {
            return new Refusal(401, "A bearer token of the cluster is needed: Authorization: Bearer TOKEN (kubectl create token NAME makes one of a service account).");
        }

        if (client is null)
        {
            return new Refusal(503, "This agent knows no API server that could say whose token that is; ask it over its unix socket.");
        }

        // The token itself is not kept.
        var key = (Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(token))), asked);
        if (_known.TryGetValue(key, out var known) && Environment.TickCount64 - known.At < Holds.TotalMilliseconds)
        {
            return known.Refusal;
        }

        Refusal? refusal;
        try
        {
            var review = await client.ReviewTokenAsync(token, cancellation).ConfigureAwait(false);
            refusal = review is null ? new Refusal(401, "The cluster does not know this token, or it has expired.")
                : await client.MayAsync(review, asked.Verb, asked.Resource, asked.Namespace, asked.Name, cancellation).ConfigureAwait(false) is var (isAllowed, reason) && isAllowed ? null
                : new Refusal(403, $"{review.User} may not {asked}{(string.IsNullOrEmpty(reason) ? "" : $": {reason}")}.");
        }
        catch (ApiException e)
        {
            // Not remembered: the next one asks again.
            return new Refusal(503, $"The cluster could not be asked who may do this: {e.Message}");
        }

        if (_known.Count >= MostRemembered)
        {
            _known.Clear();
        }

        _known[key] = (Environment.TickCount64, refusal);
        return refusal;
    }
}
