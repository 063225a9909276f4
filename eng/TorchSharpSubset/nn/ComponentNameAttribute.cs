namespace TorchSharp.Utils;

/// <summary>The name in state_dict of a field that has another name.</summary>
public class ComponentNameAttribute : Attribute
{
    public string? Name { get; set; }
}
