using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;

namespace InfiniAttention.Tests.PublicApi;

/// <summary>
/// The public types of an assembly with all that they declare for others, as C# declarations: a line a member, in
/// alphabetical order. What the compiler adds to records and enums is left out, because the declaration says it.
/// </summary>
internal static class PublicApiText
{
    private static readonly NullabilityInfoContext Nullability = new();

    private static readonly Dictionary<Type, string> Keywords = new()
    {
        [typeof(void)] = "void", [typeof(bool)] = "bool", [typeof(int)] = "int", [typeof(long)] = "long",
        [typeof(double)] = "double", [typeof(float)] = "float", [typeof(string)] = "string", [typeof(object)] = "object",
    };

    public static string Of(Assembly assembly) => string.Join(
        '\n',
        assembly.GetExportedTypes().OrderBy(type => type.FullName, StringComparer.Ordinal)
            .Select(type => string.Concat(Members(type).Order(StringComparer.Ordinal).Prepend(Declaration(type)).Select(line => line + "\n"))));

    private static string Declaration(Type type)
    {
        var kind = type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsValueType ? "struct" : IsRecord(type) ? "record" : "class";
        var modifier = type switch
        {
            { IsAbstract: true, IsSealed: true } => "static ",
            { IsSealed: true, IsValueType: false } => "sealed ",
            { IsAbstract: true, IsInterface: false } => "abstract ",
            _ => "",
        };
        var bases = type.IsValueType
            ? []
            : new[] { type.BaseType }.Where(found => found is not null && found != typeof(object))
                .Concat(type.GetInterfaces().Except(type.BaseType?.GetInterfaces() ?? []).Where(found => !IsRecord(type) || !found.Name.StartsWith("IEquatable", StringComparison.Ordinal)))
                .Select(found => Name(found!)).ToArray();
        return $"public {modifier}{kind} {type.FullName}{(bases.Length == 0 ? "" : " : " + string.Join(", ", bases))}";
    }

    private static IEnumerable<string> Members(Type type)
    {
        const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        if (type.IsEnum)
        {
            return Enum.GetNames(type).Select(name => $"    {name} = {Convert.ToInt64(Enum.Parse(type, name), CultureInfo.InvariantCulture)}");
        }

        var constructors = type.GetConstructors(Declared).Where(IsVisible)
            .Where(constructor => !IsCompilerGenerated(constructor))
            .Select(constructor => $"{Access(constructor)}{type.Name}({Parameters(constructor)})");
        var methods = type.GetMethods(Declared).Where(IsVisible)
            .Where(method => !method.IsSpecialName && !IsCompilerGenerated(method))
            .Select(method => $"{Access(method)}{Modifier(method)}{Returned(method)} {method.Name}({Parameters(method)})");
        var properties = type.GetProperties(Declared)
            .Where(property => property.GetAccessors(true).Any(IsVisible) && property.Name != "EqualityContract")
            .Select(property => $"{Access(property.GetMethod!)}{Modifier(property.GetMethod!)}{Required(property)}{Name(Nullability.Create(property))} {property.Name} {{ {Accessors(property)}}}");
        var fields = type.GetFields(Declared).Where(field => field.IsPublic || field.IsFamily)
            .Select(field => $"public {(field.IsStatic ? "static " : "")}{Name(Nullability.Create(field))} {field.Name}");
        return constructors.Concat(methods).Concat(properties).Concat(fields).Select(line => "    " + line);
    }

    private static bool IsRecord(Type type) => type.GetMethod("<Clone>$") is not null;

    private static bool IsCompilerGenerated(MemberInfo member) => member.IsDefined(typeof(CompilerGeneratedAttribute));

    private static bool IsVisible(MethodBase method) =>
        method.IsPublic || ((method.IsFamily || method.IsFamilyOrAssembly) && !method.DeclaringType!.IsSealed);

    private static string Access(MethodBase method) => method.IsPublic ? "public " : "protected ";

    private static string Modifier(MethodInfo method) => method switch
    {
        { IsStatic: true } => "static ",
        { IsVirtual: true } when method.GetBaseDefinition().DeclaringType != method.DeclaringType => "override ",
        { IsAbstract: true } => "abstract ",
        { IsVirtual: true, IsFinal: false } => "virtual ",
        _ => "",
    };

    private static string Required(PropertyInfo property) => property.IsDefined(typeof(RequiredMemberAttribute)) ? "required " : "";

    private static string Accessors(PropertyInfo property)
    {
        var setter = property.SetMethod is { } set && IsVisible(set) ? set : null;
        var isInit = setter?.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit)) == true;
        return "get; " + (setter is null ? "" : isInit ? "init; " : "set; ");
    }

    /// <summary>The type returned; a tuple with the names of its elements.</summary>
    private static string Returned(MethodInfo method)
    {
        var info = Nullability.Create(method.ReturnParameter);
        return method.ReturnParameter.GetCustomAttribute<TupleElementNamesAttribute>() is { } names
            ? $"({string.Join(", ", info.GenericTypeArguments.Zip(names.TransformNames, (element, name) => $"{Name(element)} {name}"))})"
            : Name(info);
    }

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{(parameter.ParameterType.IsByRef ? parameter.IsOut ? "out " : "ref " : "")}{Name(Nullability.Create(parameter))} {parameter.Name}{Default(parameter)}"));

    private static string Default(ParameterInfo parameter) => !parameter.HasDefaultValue
        ? ""
        : " = " + parameter.DefaultValue switch
        {
            null => parameter.ParameterType.IsValueType && Nullable.GetUnderlyingType(parameter.ParameterType) is null ? "default" : "null",
            string text => $"\"{text}\"",
            bool flag => flag ? "true" : "false",
            var value when parameter.ParameterType.IsEnum => $"{parameter.ParameterType.Name}.{Enum.ToObject(parameter.ParameterType, value)}",
            var value => Convert.ToString(value, CultureInfo.InvariantCulture),
        };

    private static string Name(NullabilityInfo info)
    {
        var type = info.Type.IsByRef ? info.Type.GetElementType()! : info.Type;
        if (Nullable.GetUnderlyingType(type) is { } value)
        {
            return Name(value) + "?";
        }

        var mark = !type.IsValueType && info.ReadState == NullabilityState.Nullable ? "?" : "";
        if (type.IsArray)
        {
            return Name(info.ElementType!) + "[]" + mark;
        }

        return type.IsGenericType ? Generic(type, info.GenericTypeArguments.Select(Name)) + mark : Name(type) + mark;
    }

    private static string Name(Type type) => Keywords.TryGetValue(type, out var keyword) ? keyword
        : type.IsArray ? Name(type.GetElementType()!) + "[]"
        : type.IsGenericType ? Generic(type, type.GetGenericArguments().Select(Name))
        : Qualified(type);

    private static string Generic(Type type, IEnumerable<string> arguments) => type.FullName!.StartsWith("System.ValueTuple`", StringComparison.Ordinal)
        ? $"({string.Join(", ", arguments)})"
        : $"{Qualified(type).Split('`')[0]}<{string.Join(", ", arguments)}>";

    /// <summary>A type's name as TorchSharp's users write it: torch.nn.Module, Parameter.</summary>
    private static string Qualified(Type type)
    {
        var name = type.DeclaringType is { IsAbstract: true, IsSealed: true } container ? $"{Qualified(container)}.{type.Name}" : type.Name;
        return name.StartsWith("torch.", StringComparison.Ordinal) ? name["torch.".Length..] : name;
    }
}
