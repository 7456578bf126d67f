"""What designers of flows get wrong, by the words of the error: why it is refused, what to do, an example of it and of its cure. Data only; a
test holds every row to the errors that Vortex really gives and to cures that really trace."""

from __future__ import annotations

from dataclasses import dataclass

_SUMMARY = '        page.mean = page.k.mean("token")'


def _flow(score: str, summarize: str = _SUMMARY, more: str = "") -> str:
    return (
        f"import vortex_attention as vx\n\nclass Idea(vx.vFlow):\n    budget = 8\n\n    def summarize(self, page):\n{summarize}\n\n"
        f"    def score(self, q, page):\n        {score}\n{more}"
    )


@dataclass(frozen=True)
class Mistake:
    """words: in the error's text, all of them."""

    kind: str
    words: tuple[str, ...]
    cause: str
    fix: str
    wrong: str = ""
    right: str = ""


_RIGHT = _flow('return vx.dot(q, page.mean, over="dim").softmax("page").sum("head")')

MISTAKES = [
    Mistake(
        "heads are left",
        ("score must be one number a page", "reduce the axis"),
        "A page is chosen by one number, and the score still has one for each query head.",
        'Turn the heads into one: .softmax("page").sum("head") lets every head vote with its own shares; .max("head") takes the loudest.',
        _flow('return vx.dot(q, page.mean, over="dim")'),
        _RIGHT,
    ),
    Mistake(
        "keys outside summarize",
        ("exists in summarize",),
        "score runs in every step and reads summaries only; keys and values of a page are seen once, when it is full.",
        "Keep in summarize what score needs, as page.NAME, and read that.",
        _flow('return vx.dot(q, page.k, over="dim").sum("head")'),
        _RIGHT,
    ),
    Mistake(
        "no such axis",
        ("must have the axis",),
        "Axes are names, and the value does not have the one that is named.",
        'Look at the type in the message: "dim" of keys, "token" within a page, "head" of q, "page" across pages, and those made by split.',
        _flow('return vx.dot(q, page.mean, over="dims").sum("head")'),
        _RIGHT,
    ),
    Mistake(
        "an axis by number",
        ("needs the name of an axis",),
        "Axes have no order here.",
        'Write the name: .sum("head").',
        _flow("return q.sum(1)"),
        _RIGHT,
    ),
    Mistake(
        "an op that is not there",
        ("has the ops of the language as methods",),
        "The value has no such method; nothing is transposed or reshaped, as operands meet by name.",
        "See reference ops. vx.dot contracts, .split and .merge cut and join axes, .rename names them.",
        _flow("return page.mean.T"),
        _RIGHT,
    ),
    Mistake(
        "dim=",
        ("axes have names",),
        "dim= and axis= of other libraries are not words of the language.",
        'Write the name of the axis alone: .sum("dim").',
        _flow("return page.mean.sum(dim=-1)"),
        _RIGHT,
    ),
    Mistake(
        "a branch on a value",
        ("cannot branch on a value",),
        "A flow is traced once for all pages, so a value is not a number yet.",
        "vx.where(condition, a, b), vx.maximum, vx.minimum.",
        _flow("return 1.0 if page.index < 4 else page.index"),
        _flow('s = vx.dot(q, page.mean, over="dim").max("head")\n        return vx.where(page.index < 4, s + 1.0, s)'),
    ),
    Mistake(
        "a number of a value",
        ("has no number while",),
        "float(), math.* and np.* want a number, and a value has none while the flow is traced.",
        "Use the methods: x.exp(), x.sqrt(). NumPy may make constants.",
        _flow("return __import__('math').exp(page.index)"),
        _flow('return vx.dot(q, page.mean, over="dim").max("head").exp()'),
    ),
    Mistake(
        "nothing is returned",
        ("must return one number a page", "nothing"),
        "score has no return, or one without a value.",
        "End it with return.",
        _flow("page.mean"),
        _RIGHT,
    ),
    Mistake(
        "a summary that nobody reads",
        ("every summary must be read by score",),
        "A summary costs memory of every page and is kept for nothing.",
        "Read it in score, or delete it.",
        _flow("return page.index"),
        _RIGHT,
    ),
    Mistake(
        "the same for all pages",
        ("the same for all pages",),
        'Reducing over "page" leaves one number for the row, which ranks nothing.',
        'softmax("page") keeps a number a page; or do not reduce over "page" at the end.',
        _flow('return page.mean.max("dim").max("page")'),
        _RIGHT,
    ),
    Mistake(
        "an amount of pages",
        ("top_k takes at least",),
        "A set of no pages chooses nothing.",
        "Say at least 1, or leave the set out.",
        _flow(
            'return page.mean.max("dim")', more="\n    def select(self, score):\n        return vx.top_k(score, -5)\n"
        ),
        _flow(
            'return page.mean.max("dim")', more="\n    def select(self, score):\n        return vx.top_k(score, 5)\n"
        ),
    ),
    Mistake(
        "no such setting",
        ("setting",),
        "A class attribute or --set names a setting that there is not, or gives it a value that it cannot have.",
        "page_size, budget, sinks, recent and the others are in reference language.",
    ),
    Mistake(
        "the walls of the sandbox",
        ("sandbox",),
        "A flow file only computes: no files, no network, no processes, two seconds, 512 MiB.",
        "Leave out what reaches outside; constants may come from NumPy and the standard library.",
    ),
    Mistake(
        "a file that is not Python",
        ("syntax",),
        "The text does not parse as Python.",
        "Mend the line that is named. One file, one class that inherits vx.vFlow.",
    ),
    Mistake(
        "too much remembered",
        ("summaries below",),
        "Summaries of half a page or more cost as much as reading the page.",
        'Remember less: means over parts (.split("token", part=4).mean("part")), fewer channels (.slice, .low_frequency).',
    ),
    Mistake(
        "no gain by bytes",
        ("fewer bytes a step than full attention",),
        "By its price the flow reads more than full attention does.",
        "Lower the budget, or remember less of each page; see price.",
    ),
    Mistake(
        "too long",
        ("at most", "values"),
        "The program has more values than a fast flow can have.",
        "Start from a shorter one.",
    ),
    Mistake(
        "it loses the answers",
        ("nat is required",),
        "On the screen's needles the log-probability of the answer falls too far: the flow does not find the page.",
        "Look at the KL and the gain in result; a finer summary (two or four means a page) or a larger budget finds more.",
    ),
    Mistake(
        "surely behind",
        ("are required",),
        "The gate stopped as soon as the flow was surely behind full attention by more than the margin.",
        "It is a loser on these items, not bad luck: change what is remembered, not a constant.",
    ),
    Mistake(
        "slower than full attention",
        ("is required", "times full attention"),
        "Its step takes longer than full attention's although it reads less: scoring costs more than it saves.",
        "Fewer operations and bytes a page; see price and which part bounds it.",
    ),
    Mistake(
        "quarantine",
        ("that its bytes allow",),
        "It was faster than the bytes it reads allow, so what was timed is not what was measured for accuracy.",
        "Nothing to mend in a hurry: find out what it skips. It is on no frontier.",
    ),
    Mistake(
        "an equal one is there",
        ("means what proposal",),
        "Its canonical program is that of an earlier proposal: names, order of operands and dead code do not count.",
        "Read the result of that one, and change what the program computes.",
    ),
]


def find(text: str) -> Mistake | None:
    """The first row whose words are all in the text."""
    low = text.lower()
    return next((mistake for mistake in MISTAKES if all(word.lower() in low for word in mistake.words)), None)
