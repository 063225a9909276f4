namespace LongContext.Summaries;

/// <summary>
/// A generated text and its summary: scenes of filler, in each of which one sentence tells what happened in a year. The summary is these sentences, one a line, each begun by its year.
/// The words of a fact follow each other in text and summary alike, and no two facts of a text share a name, a verb or a place.
/// </summary>
public static class YearBook
{
    public const int FewestFacts = 4, MostFacts = 8;

    private const int FirstYear = 1801;
    private const string Heading = "A chronicle.";

    private static readonly string[] FirstNames =
        ("Anna Bruno Clara David Edith Frank Greta Henry Irene Jacob Karen Louis Maria Nora Oscar Paula Quentin Rosa Simon Teresa Ulrich Vera Walter Xenia Yves Zoe "
        + "Adam Bella Carl Doris Emil Flora").Split(' ');

    private static readonly string[] LastNames =
        ("Abbott Baker Carter Dawson Ellis Fisher Graves Harper Irving Jordan Keller Lambert Mason Norris Osborn Parker Quinn Reeves Sawyer Turner Underwood Vaughan Weaver "
        + "Xavier York Zeller Archer Barlow Cooper Draper Easton Fowler").Split(' ');

    private static readonly string[] Verbs =
        "reached saved bought burned ruled mapped painted sold rebuilt defended robbed entered governed named visited flooded lost freed drained praised".Split(' ');

    private static readonly string[] Places =
        ("Arden Bristol Calder Dover Exeter Fairford Grimsby Hastings Ilford Jarrow Kendal Lincoln Malvern Newport Oxford Penrith Quorn Ripon Salford Truro Upton Ventnor "
        + "Warwick Yarmouth Ashby Bolton Cromer Derby Ely Filey").Split(' ');

    private static readonly string[] Adjectives = "old quiet grey narrow cold bright heavy small tired gentle dusty broken".Split(' ');
    private static readonly string[] Nouns = "miller river horse garden bridge lamp wind field road baker dog winter cart wall boat meadow".Split(' ');
    private static readonly string[] Actions = "slept waited turned stood rested moved shone fell grew stayed".Split(' ');
    private static readonly string[] Prepositions = "near behind under beside above beyond".Split(' ');

    /// <summary>The text and the summary of a seed.</summary>
    /// <param name="seed">Determines what is told.</param>
    /// <param name="facts">How many facts, at most <see cref="MostFacts"/>.</param>
    /// <param name="filler">How much filler: sentences are added until they would measure more.</param>
    /// <param name="measure">The length of a sentence, which is given with the space before it.</param>
    public static SummaryPair Create(int seed, int facts, int filler, Func<string, int> measure)
    {
        var random = new Random(seed);
        var told = Facts(random, facts);
        var sentences = new List<string>();
        for (var left = filler; ;)
        {
            var sentence = Filler(random);
            left -= measure(" " + sentence);
            if (left < 0)
            {
                break;
            }

            sentences.Add(sentence);
        }

        var scenes = sentences.Count;
        for (var fact = facts - 1; fact >= 0; fact--)
        {
            var (begin, end) = (fact * scenes / facts, (fact + 1) * scenes / facts);
            sentences.Insert(random.Next(begin, end + 1), told[fact]);
        }

        return new(string.Join(' ', [Heading, .. sentences]), string.Join('\n', told));
    }

    private static string[] Facts(Random random, int count)
    {
        var (first, last, verbs, places) = (Draw(FirstNames), Draw(LastNames), Draw(Verbs), Draw(Places));
        return [.. Enumerable.Range(0, count).Select(i => $"In {FirstYear + i} {first[i]} {last[i]} {verbs[i]} {places[i]}{(i == count - 1 ? " at last" : "")}.")];

        string[] Draw(string[] words)
        {
            var drawn = words.ToArray();
            random.Shuffle(drawn);
            return drawn[..count];
        }
    }

    private static string Filler(Random random)
    {
        return random.Next(3) switch
        {
            0 => $"The {One(Adjectives)} {One(Nouns)} {One(Actions)} {One(Prepositions)} the {One(Nouns)}.",
            1 => $"A {One(Nouns)} {One(Actions)} and the {One(Nouns)} {One(Actions)}.",
            _ => $"It was {One(Adjectives)} {One(Prepositions)} the {One(Nouns)}.",
        };

        string One(string[] words) => words[random.Next(words.Length)];
    }
}
