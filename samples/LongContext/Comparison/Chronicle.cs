namespace LongContext.Comparison;

/// <summary>
/// A chronicle generated from a seed: scenes in which a few of its people do things in a few of its places. A person's first name determines the last name, and a town its county,
/// so a name that was told before can be recalled, from wherever it was told. One word is one token.
/// </summary>
public sealed class Chronicle
{
    public const int FirstNames = 32, LastNames = 32, Towns = 16, Counties = 16, Verbs = 12, Times = 8;

    private static readonly string[] Words = [".", ",", "the", "of", "in", "at", "a", "was", "with", "and", "then", "by"];
    private static readonly int FirstName = Words.Length, LastName = FirstName + FirstNames, Town = LastName + LastNames, County = Town + Towns;
    private static readonly int Verb = County + Counties, Time = Verb + Verbs;

    public static readonly int Vocabulary = Time + Times;

    private readonly List<int> tokens = [];
    private readonly List<int> facts = [];

    /// <param name="seed">Determines what is told.</param>
    /// <param name="length">Number of tokens.</param>
    /// <param name="people">How many people there are, from 2 to 32.</param>
    public Chronicle(int seed, int length, int people = 16)
    {
        var random = new Random(seed);
        var places = Math.Min(Towns, Math.Max(4, people / 2));
        int[] first = Draw(random, FirstNames, people), last = Draw(random, LastNames, people), towns = Draw(random, Towns, places), counties = Draw(random, Counties, places);
        int[] cast = [], stage = [];
        for (var left = 0; tokens.Count < length; left--)
        {
            if (left == 0)
            {
                left = people > 8 ? random.Next(6, 13) : random.Next(18, 31);
                (cast, stage) = (Draw(random, people, people > 8 ? 3 : 2), Draw(random, places, 2));
            }

            var (who, where) = (cast[random.Next(cast.Length)], stage[random.Next(stage.Length)]);
            switch (random.Next(4))
            {
                case 0:
                    Person();
                    Does();
                    InTown();
                    break;
                case 1:
                    Tell(Word("at"), Time + random.Next(Times));
                    Person();
                    Does();
                    break;
                case 2:
                    InTown();
                    Person();
                    Does();
                    break;
                default:
                    Tell(Word("then"));
                    Person();
                    Does();
                    InTown();
                    break;
            }

            Tell(Word("."));

            void Person() => TellPair(FirstName + first[who], LastName + last[who], 1 + who);

            void Does() => Tell(Verb + random.Next(Verbs));

            void InTown()
            {
                Tell(Word("in"));
                TellPair(Town + towns[where], County + counties[where], 1 + people + where);
            }
        }

        tokens.RemoveRange(length, tokens.Count - length);
        facts.RemoveRange(length, facts.Count - length);
    }

    public IReadOnlyList<int> Tokens => tokens;

    /// <summary>The number of the fact that each token tells, from 1 on; 0 for none. A fact is a last name or a county: once told, it follows from the word before it.</summary>
    public IReadOnlyList<int> Facts => facts;

    /// <summary>Where each token's fact was last told before; <see cref="Document.Never"/> if it is told for the first time, <see cref="Document.NoFact"/> if the token tells none.</summary>
    public int[] LastTold()
    {
        var told = new Dictionary<int, int>();
        var last = new int[facts.Count];
        for (var i = 0; i < last.Length; i++)
        {
            if (facts[i] == 0)
            {
                last[i] = Document.NoFact;
                continue;
            }

            last[i] = told.TryGetValue(facts[i], out var before) ? before : Document.Never;
            told[facts[i]] = i;
        }

        return last;
    }

    public Document ToDocument() => new(tokens.Select(token => (ushort)token).ToArray(), LastTold());

    private static int Word(string word) => Array.IndexOf(Words, word);

    private static int[] Draw(Random random, int count, int chosen)
    {
        int[] numbers = [.. Enumerable.Range(0, count)];
        random.Shuffle(numbers);
        return numbers[..chosen];
    }

    private void Tell(params ReadOnlySpan<int> words)
    {
        foreach (var word in words)
        {
            tokens.Add(word);
            facts.Add(0);
        }
    }

    private void TellPair(int name, int follows, int fact)
    {
        Tell(name, follows);
        facts[^1] = fact;
    }
}
