namespace TraceProbe.Core.Cluster;

/// <summary>Names one Kubernetes object, written as kubectl takes it: <c>service/my-nginx</c> in namespace <c>default</c>.</summary>
/// <param name="Kind">The kind in lower case, singular: <c>service</c>, <c>pod</c>, <c>endpointslice</c>, <c>node</c>.</param>
/// <param name="Namespace">The namespace; null for kinds without one.</param>
/// <param name="Name">The object's name.</param>
public sealed record ObjectRef(string Kind, string? Namespace, string Name)
{
    /// <inheritdoc/>
    public override string ToString() => Namespace is null ? $"{Kind}/{Name}" : $"{Kind}/{Namespace}/{Name}";
}
