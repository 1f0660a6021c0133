namespace TraceProbe.Cluster.Api;

/// <summary>
/// The cluster's API cannot be used as asked: an unusable kubeconfig, a server that is not reached, or one that refuses. The message is
/// written for the operator: what is wrong, and what to do.
/// </summary>
public sealed class ApiException : Exception
{
    /// <summary>With a message.</summary>
    public ApiException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and what led to it.</summary>
    public ApiException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Without a message; here because exceptions have it.</summary>
    public ApiException()
    {
    }

    /// <summary>The HTTP status, also that of an error within a watch; 0 when no answer came or none that is one.</summary>
    public int Status { get; init; }

    /// <summary>How long the server wants to be left alone; null when it did not say.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Whether the version or the page that was asked for is no longer there, so that one has to list anew.</summary>
    public bool IsExpired => Status == 410;

    /// <summary>Whether there are no credentials to ask with: a plugin failed, a file is missing. Nobody was asked.</summary>
    public bool IsOfCredentials { get; init; }

    /// <summary>Whether the same request may well succeed later.</summary>
    public bool IsPassing => !IsOfCredentials && Status is 0 or 408 or 409 or 429 or >= 500;
}
