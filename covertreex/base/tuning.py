"""Every number that was tuned, in one place. None of them changes an exact answer; they trade time and memory.

A constant that a proof needs stands with its proof instead (docs/mathematics.md). Those here say their unit, what a
larger value trades for what, how the number was found, and which suites of ``covertreex bench`` find it again: change
it, run the suites before and after, and compare.

`found` is one of three words. *measured*: the number is a measurement. *tried*: several values were compared on the
suites named. *chosen*: a value that seemed right and has not been compared with others.

>>> FACTS["GROWTH"].unit
'rows in the next ring, as a multiple'
"""

from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")


class Fact(NamedTuple):
    """What is known of a tuned constant; `avx2`: it was found on processors with AVX2, and may differ on others."""

    value: object
    unit: str
    trades: str
    found: str
    suites: tuple[str, ...]
    avx2: bool


#: What is known of each constant of this module, by its name.
FACTS: dict[str, Fact] = {}


def _tuned(name: str, value: T, unit: str, trades: str, found: str, *suites: str, avx2: bool = False) -> T:
    FACTS[name] = Fact(value, unit, trades, found, suites, avx2)
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Payloads and cover trees

FACTOR_BLOCK = _tuned(
    "FACTOR_BLOCK", 1024, "rows of factors that one task computes or copies",
    "fewer tasks against a slower answer to Ctrl-C and threads that wait for the last task", "chosen", "gold",
)  # fmt: skip
LEAF_THREAD = _tuned(
    "LEAF_THREAD", 8192, "points that one thread puts into leaf order, at least",
    "threads that cost more to start than they save against threads that are not used", "tried", "euclidean",
)  # fmt: skip
LEAF_BRIEF = _tuned(
    "LEAF_BRIEF", 256, "points that the calling thread puts into leaf order itself, at most",
    "no thread to start against a slower answer to Ctrl-C", "tried", "gold",
)  # fmt: skip
BRIEF = _tuned(
    "BRIEF", 2**22, "products of numbers that the calling thread computes itself, at most",
    "no thread to start against a slower answer to Ctrl-C", "tried", "gold",
)  # fmt: skip
TREE_PART = _tuned(
    "TREE_PART", 64, "points that look for their covers together, for each thread",
    "rows loaded once for more points against more points that are compared with each other", "tried", "gold",
)  # fmt: skip
TREE_DISTANCES = _tuned(
    "TREE_DISTANCES", 2**15, "distances that one task computes", "fewer tasks against a slower answer to Ctrl-C",
    "chosen", "gold",
)  # fmt: skip
UNSORTED = _tuned(
    "UNSORTED", 1 / 8, "share of rows that may stand behind the leaf order of the others",
    "rarer sorting after insertions against near points that lie far apart in memory", "chosen", "vif100k",
)  # fmt: skip
DEAD = _tuned(
    "DEAD", 1 / 4, "share of rows that may be those of deleted points",
    "rarer copies after deletions against rows that are looked at for nothing", "chosen", "vif100k",
)  # fmt: skip
SPREAD_CELLS = _tuned(
    "SPREAD_CELLS", 2**22, "neighbours that are counted by site at once",
    "fewer searches for queries that came out short against memory", "chosen",
)  # fmt: skip
MAXIMIN_BUDGET = _tuned(
    "MAXIMIN_BUDGET", 2**19, "nodes that a maximin order looks at before it listens for Ctrl-C again",
    "less overhead against a slower answer to Ctrl-C", "chosen",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Blocks and groups of queries

BLOCK = _tuned(
    "BLOCK", 64, "queries that a backend's tree search is given at once",
    "fewer calls against threads that wait for the last block", "chosen", "gold",
)  # fmt: skip
GROUPS_MOST = _tuned(
    "GROUPS_MOST", 8, "groups of a scan that one block holds, at most",
    "fewer calls against blocks that do not stay in cache", "tried", "gold", "vif100k",
)  # fmt: skip
GROUPS_SHARE = _tuned(
    "GROUPS_SHARE", 64, "blocks that there should be, at least",
    "work that is shared evenly among threads against more calls", "chosen", "gold", "vif100k",
)  # fmt: skip
DYNAMIC_SMALLEST, DYNAMIC_LARGEST = (
    _tuned(name, value, "queries of a dynamic block", "fewer calls against threads that wait for the last block",
           "chosen", "gold")
    for name, value in (("DYNAMIC_SMALLEST", 8), ("DYNAMIC_LARGEST", 256))
)  # fmt: skip
DYNAMIC_SHARE = _tuned(
    "DYNAMIC_SHARE", 8, "parts of the queries still active, of which a dynamic block takes one",
    "smaller last blocks against more of them", "chosen", "gold",
)  # fmt: skip
GROUP_BYTES = _tuned(
    "GROUP_BYTES", 2**20, "bytes of query factors in a group, at most",
    "rows loaded once for more queries against factors that leave a core's second-level cache", "tried", "gold",
    avx2=True,
)  # fmt: skip
SWEEP_MOST, SWEEP_FEWER = (
    _tuned(name, value, unit, "rows loaded once for more queries against queries that do not stay in a cache", "tried",
           "gold", "vif100k")
    for name, value, unit in (
        ("SWEEP_MOST", 192, "queries of a group that sweeps all rows, a multiple of 16"),
        ("SWEEP_FEWER", 96, "the same where fewer than WORTH_MORE ask"),
    )
)  # fmt: skip
WORTH_MORE = _tuned(
    "WORTH_MORE", 16384, "queries, from which groups of a sweep are large", "rows loaded for more queries against "
    "threads without a group", "chosen", "gold", "vif100k",
)  # fmt: skip
BLIND = _tuned(
    "BLIND", 0.5, "what |rho| of a query and a typical row may be off by, above which all its pairs are looked at in "
    "float64", "queries in groups of their own against pairs that are looked at one by one", "tried", "vif100k",
)  # fmt: skip
NEAR_MOST = _tuned(
    "NEAR_MOST", 32, "queries of a group that looks at near rows, a multiple of 16",
    "rows shared by more queries against rows that are near only one of them", "tried", "gold", "vif100k",
)  # fmt: skip
INNER = _tuned(
    "INNER", 8, "consecutive queries of such a group that are nearer to each other still",
    "candidates shared in a second pass against candidates that concern only one", "tried", "gold",
)  # fmt: skip
SWEEP_SHARE = _tuned(
    "SWEEP_SHARE", 0.92, "length of a prefix level of a sweep, as a share of the one before",
    "fewer levels, so fuller groups, against rows looked at that no query of the group may have", "tried", "gold",
)  # fmt: skip
NEAR_SHARE = _tuned(
    "NEAR_SHARE", 0.5, "length of a prefix level of near rows, as a share of the one before",
    "fewer levels, so denser groups, against rows looked at that no query of the group may have", "tried", "vif100k",
)  # fmt: skip
SMALLEST_LEVEL = _tuned(
    "SMALLEST_LEVEL", 1024, "rows of the smallest prefix level", "fewer levels against fuller groups", "chosen", "gold",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Which screen, and when

WORTH_SCREENING = _tuned(
    "WORTH_SCREENING", 8, "rows for each neighbour wanted, above which screens are tried",
    "screens that drop too little against pairs that are all decided", "chosen", "gold",
)  # fmt: skip
FEW_QUERIES, FEW_PRODUCTS = (
    _tuned(name, value, unit, "what a screen saves against the time it takes to begin", "tried", "small")
    for name, value, unit in (
        ("FEW_QUERIES", 4, "queries, up to which a search may go without a screen"),
        ("FEW_PRODUCTS", 2e6, "products of components, up to which it does"),
    )
)  # fmt: skip
WORTH_COPYING = _tuned(
    "WORTH_COPYING", 64, "queries for which a float32 copy of the factors is made",
    "memory and a copy against products in float64", "tried", "gold",
)  # fmt: skip
WORTH_MIXING = _tuned(
    "WORTH_MIXING", 512, "queries for which a float32 copy of the smaller components is made",
    "memory and a copy against products in float64", "tried", "gold",
)  # fmt: skip
WORTH_BLOCKS = _tuned(
    "WORTH_BLOCKS", 256, "queries for which coordinates are laid out in blocks, to find near rows by",
    "a copy against a sweep without first thresholds", "tried", "gold",
)  # fmt: skip
BLUR = _tuned(
    "BLUR", 1e-2, "what float32 may add to the |rho| of a typical pair",
    "products in float32 against pairs that it leaves in doubt", "tried", "gold", "vif100k",
)  # fmt: skip
COPY_PART = _tuned(
    "COPY_PART", 1024, "rows that are copied in one task", "fewer tasks against rows that leave the cache", "tried",
    "vif100k",
)  # fmt: skip
WORTH_EIGHT = _tuned(
    "WORTH_EIGHT", 16, "rows, and queries, for each component, above which factors are rounded to eight bits (C4)",
    "an eigendecomposition and a product against products in float32", "tried", "gold", "vif100k",
)  # fmt: skip
AGAIN_EIGHT = _tuned(
    "AGAIN_EIGHT", 60.0, "nanoseconds of one core for a pair that eight bits leave in doubt",
    "only ratios of costs matter", "measured", "vif100k", "cities",
)  # fmt: skip
LEAST_EIGHT = _tuned(
    "LEAST_EIGHT", 64, "components, below which factors are not rounded to eight bits",
    "cheaper products against pairs that are looked at again", "chosen", "vif100k",
)  # fmt: skip
EIGHT_PART = _tuned(
    "EIGHT_PART", 1024, "rows that one task rounds to eight bits", "fewer tasks against memory", "chosen", "vif100k",
)  # fmt: skip
DOUBT = _tuned(
    "DOUBT", 0.01, "what the leading components may leave of a typical pair's |rho| (C4)",
    "fewer components in all pairs against more pairs that are looked at again", "tried", "gold", "vif100k",
    avx2=True,
)  # fmt: skip
LEADING = _tuned(
    "LEADING", 0.75, "share of all components that leading ones may be (C5)",
    "a small gain against a second look at many pairs", "chosen", "gold",
)  # fmt: skip
MIXED_DOUBT = _tuned(
    "MIXED_DOUBT", 4e-3, "what components in float32 may add to a typical pair's |rho| (C5)",
    "fewer components in float64 against more pairs that are decided", "tried", "gold", avx2=True,
)  # fmt: skip
MIXED_ROWS = _tuned(
    "MIXED_ROWS", 1024, "rows, above which a mixed screen is tried; and rows that one task copies",
    "a copy against products in float64", "chosen", "gold",
)  # fmt: skip
PRODUCT8, PRODUCT16, PRODUCT32, PRODUCT64 = (
    _tuned(name, value, "nanoseconds of one core at 3 GHz for one component of a pair", "only ratios of costs matter",
           "measured", "gold", "vif100k", avx2=True)
    for name, value in (("PRODUCT8", 0.006), ("PRODUCT16", 0.012), ("PRODUCT32", 0.0235), ("PRODUCT64", 0.047))
)  # fmt: skip
KERNEL32, KERNEL64 = (
    _tuned(name, value, "nanoseconds of one core at 3 GHz for the kernel of a pair", "only ratios of costs matter",
           "measured", "gold", "vif100k", avx2=True)
    for name, value in (("KERNEL32", 1.7), ("KERNEL64", 4.0))
)  # fmt: skip
LOOK = _tuned(
    "LOOK", 0.8, "nanoseconds of one core at 3 GHz for a look at a pair", "only ratios of costs matter", "measured",
    "gold", "vif100k", avx2=True,
)  # fmt: skip

# What a plan expects; nothing is chosen by these.
DECIDED, DECIDED_PAIR = (
    _tuned(name, value, unit, "nothing: for people", "measured", "gold", "vif100k", avx2=True)
    for name, value, unit in (
        ("DECIDED", 0.35, "nanoseconds of one core at 3 GHz for one component of a pair that is decided"),
        ("DECIDED_PAIR", 40.0, "nanoseconds of one core at 3 GHz for a pair that is decided, besides"),
    )
)  # fmt: skip
FOUND, LINKED, BOX_ROW, BOX_QUERY = (
    _tuned(name, value, f"nanoseconds of one core at 3 GHz for {unit}", "nothing: for people", "measured", *suites,
           avx2=True)
    for name, value, unit, *suites in (
        ("FOUND", 0.4, "one coordinate of a row that is looked through for near ones", "vif100k", "rough"),
        ("LINKED", 110.0, "a link of the graph of a second pass", "gold"),
        ("BOX_ROW", 0.5, "one coordinate of a row in a box that a query meets", "euclidean"),
        ("BOX_QUERY", 1200.0, "a query by boxes, besides", "euclidean"),
    )
)  # fmt: skip
AGAIN_SWEPT, AGAIN_NEAR = (
    _tuned(name, value, "nanoseconds of one core at 3 GHz, for each neighbour wanted, for pairs kept or looked at "
           "again", "nothing: for people", "measured", "gold", "vif100k", "cities", "rough", avx2=True)
    for name, value in (("AGAIN_SWEPT", 1200.0), ("AGAIN_NEAR", 500.0))
)  # fmt: skip
AGAIN_MOST = _tuned(
    "AGAIN_MOST", 15.0, "nanoseconds of one core at 3 GHz, for each row that is swept, that these take at most",
    "nothing: for people", "measured", "gold", avx2=True,
)  # fmt: skip
FOUND_SHARED = _tuned(
    "FOUND_SHARED", 0.25, "share of the queries of a group that a block is near to", "nothing: for people", "measured",
    "gold", "vif100k",
)  # fmt: skip
COLLECTED = _tuned(
    "COLLECTED", 1.5, "rows that are collected, as a multiple of those looked at", "nothing: for people", "measured",
    "vif100k",
)  # fmt: skip
ALONE_LOOK = _tuned(
    "ALONE_LOOK", 6.5, "cost of a pair of a query alone, as a multiple of one that is shared", "nothing: for people",
    "measured", "vif100k", avx2=True,
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Whitened screens (C3)

WHITE_MOST = _tuned(
    "WHITE_MOST", 1.5, "pivots at most, as a multiple of the components of the factors",
    "memory and time against a sharper screen", "tried", "vif100k",
)  # fmt: skip
WHITE_PART = _tuned(
    "WHITE_PART", 1024, "rows that one task extends", "fewer tasks against rows that leave the cache", "tried",
    "vif100k",
)  # fmt: skip
WHITE_WORTH = _tuned(
    "WHITE_WORTH", 0.12, "share by which the last pivots must have made a pair cheaper for more to be drawn",
    "pivots drawn for little against a screen that stays blunt", "tried", "vif100k",
)  # fmt: skip
WHITE_HOPELESS = _tuned(
    "WHITE_HOPELESS", 4.0, "cost of a pair, as a multiple of that in float64, above which no more pivots are drawn",
    "time lost where nothing helps against a late success", "chosen", "vif100k",
)  # fmt: skip
WHITE_PAIR64 = _tuned(
    "WHITE_PAIR64", 0.25, "nanoseconds of one core for one component of a float64 pair on its own",
    "only ratios of costs matter", "measured", "vif100k", avx2=True,
)  # fmt: skip
WHITE_STEP = _tuned(
    "WHITE_STEP", 10.0, "nanoseconds of one core for one component of a row, besides the products",
    "only ratios of costs matter", "measured", "vif100k", avx2=True,
)  # fmt: skip
PAIR_QUERIES, PAIR_ROWS, PAIR_GROUP_ROWS = (
    _tuned(name, value, unit, "a better guess of what a screen would leave against the time it takes",
           "chosen", "vif100k")
    for name, value, unit in (
        ("PAIR_QUERIES", 96, "queries of the sample of a sweep"),
        ("PAIR_ROWS", 2048, "rows of the sample of a sweep"),
        ("PAIR_GROUP_ROWS", 64, "rows that each group of a sample looks at"),
    )
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Rings of near rows, and the sample on which a recall target is calibrated

GROWTH = _tuned(
    "GROWTH", 1.3, "rows in the next ring, as a multiple", "fewer rings against a coarser choice of where to stop",
    "tried", "gold", "vif100k",
)  # fmt: skip
FIRST_RINGS = _tuned(
    "FIRST_RINGS", 32, "groups whose first rings one task looks at",
    "fewer tasks against threads that wait for the last",
    "chosen", "gold",
)  # fmt: skip
SAMPLE_QUERIES = _tuned(
    "SAMPLE_QUERIES", 8, "queries of a sampled group that are solved exactly",
    "rows loaded once for more queries against queries whose misses come together", "tried", "gold",
)  # fmt: skip
SAMPLE_GROUPS = _tuned(
    "SAMPLE_GROUPS", 60, "groups of a sample, at least", "a surer estimate against the time it takes", "tried", "gold",
    "vif100k",
)  # fmt: skip
SOLVED_TOGETHER = _tuned(
    "SOLVED_TOGETHER", 80, "queries of a sample that are solved together", "rows loaded once for more queries against "
    "threads that wait for the last part", "chosen", "gold",
)  # fmt: skip
CERTAINTY = _tuned(
    "CERTAINTY", 24.0, "neighbours of the sample, as a multiple of those in which the target lets one be missed",
    "a surer estimate against the time it takes", "tried", "gold", "vif100k",
)  # fmt: skip
SAMPLE_SHARE = _tuned(
    "SAMPLE_SHARE", 0.125, "share of the queries that a sample may be, above which all rows are looked at instead",
    "a calibration that costs more than it saves against a sweep", "chosen", "gold",
)  # fmt: skip
CAUTION = _tuned(
    "CAUTION", 1.2, "standard errors by which a sample may be unluckier than it seems",
    "more rows looked at against recall below the target", "tried", "gold", "vif100k", "cities",
)  # fmt: skip
TELLING = _tuned(
    "TELLING", 10.0, "misses of a rule, as a multiple of those allowed, above which it tells nothing of clusters",
    "a better estimate against one that is misled", "tried", "vif100k",
)  # fmt: skip
WORTH_NEAR = _tuned(
    "WORTH_NEAR", 0.3, "share of all rows that are near, above which all are swept in order",
    "rows from anywhere against more rows in order", "tried", "gold", "cities",
)  # fmt: skip
WORTH_A_SCREEN = _tuned(
    "WORTH_A_SCREEN", 0.25, "share of the rows that a screen leaves, above which there is none",
    "a screen that drops too little against pairs that are all decided", "chosen", "gold",
)  # fmt: skip
PROBES = _tuned(
    "PROBES", 16, "groups that tell whether a way is worth a sample", "a surer guess against the time it takes",
    "chosen", "vif100k",
)  # fmt: skip
RULES = _tuned(
    "RULES",
    {1: (*np.geomspace(0.1, 0.001, 21).tolist(), 0.0), 3: (0.004, 0.002, 0.001, 0.0), 6: (0.001, 0.0), 12: (0.0,)},
    "shares of a group's places, by how many rings in a row must each take at most so much",
    "a finer choice of where to stop against more rules tried", "tried", "gold", "vif100k", "cities",
)  # fmt: skip
ALONE_RULES = _tuned(
    "ALONE_RULES", ((0.3, 1), (0.2, 1), (0.1, 1), *((0.0, patience) for patience in (1, 2, 3, 4, 6))),
    "shares of a query's own places, and rings in a row",
    "a finer choice of where to stop against more rules tried", "tried", "vif100k",
)  # fmt: skip
ALONE_MOST = _tuned(
    "ALONE_MOST", 12.0, "rows that a query alone may look at, as a multiple of the neighbours wanted",
    "pairs that cost more against fewer of them", "tried", "vif100k", avx2=True,
)  # fmt: skip
ALONE_COST = _tuned(
    "ALONE_COST", 4.0, "cost of a pair of a query alone, as a multiple of one that is shared",
    "only ratios of costs matter", "measured", "vif100k", avx2=True,
)  # fmt: skip
ALONE_PROBED = _tuned(
    "ALONE_PROBED", 2, "rings in a row that bring probed groups nothing", "a surer guess against the time it takes",
    "chosen", "vif100k",
)  # fmt: skip
ALONE_CAUTION = _tuned(
    "ALONE_CAUTION", 1.5, "standard errors, as CAUTION: fewer rules tell how misses cluster",
    "more rows looked at against recall below the target", "tried", "vif100k", "cities",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Two passes

FIRST_PASS = _tuned(
    "FIRST_PASS", 0.006, "share of a group's places, at which the first of two passes stops",
    "a shorter first pass against more neighbours of neighbours", "tried", "gold",
)  # fmt: skip
ONE_PASS = _tuned(
    "ONE_PASS", 0.001, "share of a group's places, at which one pass would stop", "see WORTH_TWO_PASSES", "tried",
    "gold",
)  # fmt: skip
WORTH_TWO_PASSES = _tuned(
    "WORTH_TWO_PASSES", 1.35, "rows of one pass, as a multiple of those of the first of two, above which there are two",
    "a graph of neighbours against far rings", "tried", "gold", "vif100k",
)  # fmt: skip
WORTH_FIRST = _tuned(
    "WORTH_FIRST", 0.5, "share of all rows that a first pass may look at", "two passes against a sweep", "chosen",
    "gold",
)  # fmt: skip
HIGH_TARGET = _tuned(
    "HIGH_TARGET", 0.98, "recall target, from which there may be two passes",
    "a graph of neighbours against far rings", "tried", "gold",
)  # fmt: skip
PROMISES = _tuned(
    "PROMISES", (np.inf, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3),
    "products of two |rho|, in units of a query's k-th", "a finer choice against more promises tried", "tried", "gold",
)  # fmt: skip
LISTS_TAKEN = _tuned(
    "LISTS_TAKEN", 8192, "lists that a graph takes in one task", "fewer tasks against a slower answer to Ctrl-C",
    "chosen", "gold",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Halos (H1)

HALO_NEAR = _tuned(
    "HALO_NEAR", (0.95, 0.9), "|rho| within which every row has an anchor: the first that takes few enough anchors",
    "shorter walks against more anchors, in memory and in time to prepare", "tried", "gold", avx2=False,
)  # fmt: skip
HALO_WIDEST = _tuned(
    "HALO_WIDEST", 1.4, "radians that a halo reaches, at most", "more queries certified against memory", "chosen",
    "gold",
)  # fmt: skip
HALO_SPARE = _tuned(
    "HALO_SPARE", 0.02, "radians that a halo reaches beyond what it should need",
    "more queries certified against memory", "tried", "gold",
)  # fmt: skip
HALO_BLOCK = _tuned(
    "HALO_BLOCK", 256, "consecutive rows that share anchors", "fewer anchors against a dense matrix of more rows",
    "tried", "gold",
)  # fmt: skip
MOST_ANCHORS = _tuned(
    "MOST_ANCHORS", 0.4, "share of a sample of rows that are anchors, above which halos are given up",
    "halos that hardly help against sweeps", "chosen", "gold",
)  # fmt: skip
LEAST_CERTIFIED = _tuned(
    "LEAST_CERTIFIED", 0.5, "share of a sample of queries that is certified, below which halos are given up",
    "halos that hardly help against sweeps", "chosen", "gold",
)  # fmt: skip
HALO_BLOCKS, HALO_ANCHORS = (
    _tuned(name, value, unit, "a surer guess against the time it takes", "chosen", "gold")
    for name, value, unit in (("HALO_BLOCKS", 8, "blocks of a sample"), ("HALO_ANCHORS", 192, "anchors of a sample"))
)  # fmt: skip
HALO_ROWS = _tuned(
    "HALO_ROWS", 1024, "rows in a halo, at most, but for large k", "more queries certified against memory", "tried",
    "gold",
)  # fmt: skip
WALKED_TOGETHER = _tuned(
    "WALKED_TOGETHER", 256, "queries that walk in one task, at most",
    "fewer tasks against threads that wait for the last one", "tried", "gold",
)  # fmt: skip
WALKS_SHARED = _tuned(
    "WALKS_SHARED", 4, "tasks of walks for each thread, at least",
    "work that is shared evenly among threads against more tasks", "tried", "gold",
)  # fmt: skip
SWEPT_TOGETHER = _tuned(
    "SWEPT_TOGETHER", 16, "queries without a certificate that are swept together",
    "rows loaded once for more queries against threads that wait", "chosen", "gold",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Boxes (Euclidean), and radii

BOX_GROUP = _tuned(
    "BOX_GROUP", 1024, "queries that are found at once, at most", "fewer calls against rows that leave the cache",
    "tried", "euclidean",
)  # fmt: skip
BOX_LEAST = _tuned(
    "BOX_LEAST", 512, "queries that are found at once, at least", "fewer calls against work that is shared evenly",
    "tried", "small",
)  # fmt: skip
BOX_FOUND = _tuned(
    "BOX_FOUND", 2**17, "rows that are found for them, about", "fewer calls against rows that leave the cache", "tried",
    "euclidean",
)  # fmt: skip
BOX_SHARED = _tuned(
    "BOX_SHARED", 64, "groups that there should be, at least", "work that is shared evenly against more calls",
    "chosen", "euclidean",
)  # fmt: skip
BOX_AXES = _tuned(
    "BOX_AXES", 8, "coordinates, up to which boxes find the most correlated, where correlation falls with distance",
    "rows that boxes do not exclude against rows that a screen looks at", "chosen",
)  # fmt: skip
BOX_SHARE = _tuned(
    "BOX_SHARE", 1 / 16, "share of the first so many rows that ask, from which these have boxes of their own",
    "boxes that are made for few against boxes of rows that no query may have", "tried", "cities",
)  # fmt: skip
BOX_PREFIX = _tuned(
    "BOX_PREFIX", 1024, "rows of the smallest such prefix", "boxes that are made for few against boxes of rows that no "
    "query may have", "chosen", "cities",
)  # fmt: skip
BOXES_LEAVE = _tuned(
    "BOXES_LEAVE", 64, "rows that a query is compared with for each neighbour, about",
    "no thread to start against a slower answer to Ctrl-C", "chosen", "euclidean",
)  # fmt: skip
RADIUS_ROOM = _tuned(
    "RADIUS_ROOM", 2**20, "neighbours that one scan has room for: queries times candidates of the one that has most",
    "fewer calls against memory", "chosen",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Covariances that only a function of the caller's knows

CALLED_PAIRS = _tuned(
    "CALLED_PAIRS", 2**21, "pairs that the function is asked for at once", "fewer calls against memory", "chosen",
)  # fmt: skip
CALLED_ALL = _tuned(
    "CALLED_ALL", 2**12, "rows of which all are compared, whatever the recall target",
    "a call for each query against more pairs", "chosen",
)  # fmt: skip
CALLED_SAMPLE = _tuned(
    "CALLED_SAMPLE", 128, "queries of which all pairs are looked at, to tell recall",
    "a surer recall against the time that it takes", "chosen",
)  # fmt: skip
CALLED_FEWEST = _tuned(
    "CALLED_FEWEST", 4, "candidates that are tried first, in units of k", "fewer tries against fewer pairs", "chosen",
)  # fmt: skip
