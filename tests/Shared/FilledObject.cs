using System.Collections;
using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Tests;

/// <summary>An object of which every property says something, so that none can be forgotten unnoticed where objects are read and written.</summary>
internal static class FilledObject
{
    public static T Of<T>() => (T)Of(typeof(T), new Counter());

    /// <summary>The first property in which two objects differ, with its path; null when they say the same.</summary>
    public static string? Difference(object? left, object? right, string path = "")
    {
        if (left is null || right is null || left is string or IntOrString or DateTimeOffset or IpAddress || left.GetType().IsPrimitive || left is Enum)
        {
            return Equals(left, right) ? null : $"{path}: '{left}' is not '{right}'";
        }

        if (left is IEnumerable some && right is IEnumerable others)
        {
            var (ours, theirs) = (some.Cast<object?>().ToArray(), others.Cast<object?>().ToArray());
            return ours.Length != theirs.Length ? $"{path}: {ours.Length} elements are not {theirs.Length}"
                : ours.Select((item, i) => Difference(item, theirs[i], $"{path}[{i}]")).FirstOrDefault(d => d is not null);
        }

        return left.GetType().GetProperties().Where(p => p.CanWrite || p.DeclaringType!.Name == "KeyValuePair`2")
            .Select(p => Difference(p.GetValue(left), p.GetValue(right), $"{path}.{p.Name}")).FirstOrDefault(d => d is not null);
    }

    private static object Of(Type type, Counter counter)
    {
        if (Nullable.GetUnderlyingType(type) is { } inner)
        {
            return Of(inner, counter);
        }

        if (type == typeof(string))
        {
            return $"text-{counter.Next()}";
        }

        if (type == typeof(int) || type == typeof(uint) || type == typeof(long) || type == typeof(ushort))
        {
            return Convert.ChangeType(counter.Next(), type, CultureInfo.InvariantCulture);
        }

        if (type.IsEnum)
        {
            var values = Enum.GetValues(type);
            return values.GetValue(counter.Next() % values.Length)!;
        }

        if (type == typeof(bool))
        {
            return true;
        }

        if (type == typeof(DateTimeOffset))
        {
            return new DateTimeOffset(2026, 11, 20, 12, 0, 0, TimeSpan.Zero).AddSeconds(counter.Next());
        }

        if (type == typeof(IpAddress))
        {
            return IpAddress.FromIPv4((uint)counter.Next());
        }

        if (type == typeof(IntOrString))
        {
            return counter.Next() % 2 == 0 ? new IntOrString(counter.Next(), null) : new IntOrString(null, $"name-{counter.Next()}");
        }

        if (type == typeof(ImmutableSortedDictionary<string, string>))
        {
            return ImmutableSortedDictionary<string, string>.Empty.Add($"a/{counter.Next()}", $"é\"{counter.Next()}").Add($"b-{counter.Next()}", "");
        }

        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(ImmutableArray<>))
        {
            var element = type.GetGenericArguments()[0];
            var array = Array.CreateInstance(element, 2);
            array.SetValue(Of(element, counter), 0);
            array.SetValue(Of(element, counter), 1);
            return typeof(ImmutableArray).GetMethods().Single(m => m.Name == "Create" && m.GetParameters() is [{ ParameterType.IsArray: true }])
                .MakeGenericMethod(element).Invoke(null, [array])!;
        }

        var made = type.GetConstructors().OrderBy(c => c.GetParameters().Length).First();
        var value = made.Invoke([.. made.GetParameters().Select(p => Of(p.ParameterType, counter))]);
        foreach (var property in type.GetProperties().Where(p => p.CanWrite && made.GetParameters().Length == 0))
        {
            // Of annotations only some are kept.
            property.SetValue(value, property.Name == "Annotations"
                ? ImmutableSortedDictionary<string, string>.Empty.Add("kubernetes.io/config.hash", $"{counter.Next()}").Add("kubernetes.io/config.mirror", $"{counter.Next()}")
                : Of(property.PropertyType, counter));
        }

        return value;
    }

    private sealed class Counter
    {
        private int _count;

        public int Next() => ++_count;
    }
}
