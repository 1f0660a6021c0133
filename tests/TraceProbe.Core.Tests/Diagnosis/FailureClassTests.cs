using System.Reflection;
using System.Text.Json.Serialization;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Tests.Diagnosis;

public class FailureClassTests
{
    [Fact]
    public void Catalogue_HasEveryClassInTheEnumsOrderUnderItsName()
    {
        var members = Enum.GetValues<FailureClass>();
        FailureClassInfo.All.Select(i => i.Class).ShouldBe(members);
        foreach (var info in FailureClassInfo.All)
        {
            var attribute = typeof(FailureClass).GetField(info.Class.ToString())!.GetCustomAttribute<JsonStringEnumMemberNameAttribute>();
            info.Name.ShouldBe(attribute!.Name);
            info.Name.ShouldMatch("^[a-z]+(-[a-z]+)*$");
            info.Meaning.ShouldEndWith(".");
            info.Mend.ShouldEndWith(".");
            FailureClassInfo.Find(info.Name).ShouldBe(info);
        }
    }

    [Fact]
    public void Catalogue_IsInThePacketsOrder()
        => FailureClassInfo.All.Where(i => i.Stage is not null).Select(i => i.Stage!.Value).ShouldBeInOrder();
}
