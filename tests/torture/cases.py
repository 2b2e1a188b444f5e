"""Cases drawn from a number, and what covertreex makes of each: right, refused or wrong, by the dense oracle's word."""

import os
import tempfile
import warnings
from dataclasses import dataclass, field

import dense
import numpy as np

import covertreex as cx

KERNELS = ("RBF", "Matern12", "Matern32", "Matern52", "RationalQuadratic")

#: Scales within this range, and no hostile feature: nothing may be refused.
ORDINARY = 1e6


@dataclass
class Verdict:
    """What became of a case.

    Attributes
    ----------
    kind : {'right', 'refused', 'wrong'}
    reason : str
        Of a refusal, the error's type and how its message begins; of what is wrong, what.
    ordinary : bool
        Whether nothing about the case excuses a refusal.
    hits, total : int
        Neighbours of an approximate search that are right, and all there are.
    """

    kind: str
    reason: str = ""
    ordinary: bool = True
    hits: int = 0
    total: int = 0


@dataclass
class Case:
    """Everything about one case; `features` says it in words."""

    seed: int
    rng: np.random.Generator
    features: dict = field(default_factory=dict)
    extremes: list = field(default_factory=list)
    hostile: bool = False

    def note(self, name, value):
        self.features[name] = value
        return value

    def scale(self, value):
        """A scale to be judged: ordinary or not."""
        self.extremes.append(float(value))
        return value

    def chance(self, p):
        return bool(self.rng.random() < p)

    def pick(self, name, options, weights=None):
        p = None if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
        return self.note(name, options[int(self.rng.choice(len(options), p=p))])

    @property
    def ordinary(self):
        inside = all(1.0 / ORDINARY <= abs(x) <= ORDINARY for x in self.extremes if x != 0.0)
        return inside and not self.hostile


def shape_of(case, n, d):
    """Points about 1 across, of one shape or another."""
    rng = case.rng
    kinds = ("normal", "uniform", "duplicates", "near", "lattice", "line", "clusters", "constant", "point", "offset")
    kind = case.pick("shape", kinds, (4, 2, 2, 2, 2, 1, 2, 1, 0.5, 1))
    X = rng.normal(size=(n, d)) if kind != "uniform" else rng.uniform(size=(n, d))
    if kind == "duplicates":
        X = X[rng.integers(max(1, n // 3), size=n)]
    elif kind == "near":
        X = X[rng.integers(max(1, n // 3), size=n)] + 10.0 ** rng.uniform(-15, -3) * rng.normal(size=(n, d))
    elif kind == "lattice":
        X = rng.integers(0, 2 + int(n ** (1 / d)), size=(n, d)).astype(float)
    elif kind == "line":
        X = np.linspace(0.0, 1.0, n)[:, None] * np.ones(d)
    elif kind == "clusters":
        X = rng.normal(size=(4, d))[rng.integers(4, size=n)] + 1e-4 * X
    elif kind == "constant":
        X[:, rng.integers(d)] = 0.25
    elif kind == "point":
        X[:] = X[0]
    elif kind == "offset":
        X = X + 10.0 ** rng.uniform(0, 8)
    return X


class Drawn:
    """A case: its arguments, its answers, and the oracle's view."""

    def __init__(self, seed, backends):
        self.case = case = Case(seed, np.random.default_rng(seed))
        rng = case.rng
        self.n = case.note("n", int(rng.integers(1, 401)) if case.chance(0.7) else int(rng.integers(1, 30)))
        self.d = case.note("d", int(rng.integers(1, 11)) if case.chance(0.5) else int(rng.integers(1, 4)))
        self.X = shape_of(case, self.n, self.d)
        self.size = float(case.note("coordinates", 1.0 if case.chance(0.5) else 10.0 ** rng.uniform(-150, 150)))
        if case.features["shape"] == "lattice":
            self.size = 2.0 ** np.round(np.log2(self.size))  # so that ties stay ties
        case.scale(self.size)
        self.X = self.X * self.size
        self.metric = case.pick("metric", ("euclid", "plain", "residual"), (1.5, 1.5, 4))
        self.backend = case.pick("backend", backends)
        profiles, weights = ["exact", "fast", "parity"], [4, 2, 2]
        if self.backend == "numba":
            profiles, weights = [*profiles, "gold"], [*weights, 2]
        self.profile = case.pick("profile", profiles, weights)
        self.threads = case.pick("threads", (1, 2), (3, 1))
        self.supplied = self.with_p = False
        self.Z = self.jitter = None
        if self.metric != "euclid":
            self._draw_kernel()
        self.k = case.note("k", int(rng.integers(1, min(self.n, 40) + 1)) if case.chance(0.9) else self.n)

    # The kernel and its factors.

    def _draw_kernel(self):
        case, rng = self.case, self.case.rng
        name = case.pick("kernel", KERNELS)
        extent = float(np.max(np.ptp(self.X, axis=0))) or float(np.abs(self.X).max()) or self.size
        log = rng.uniform(-3, 1) if case.chance(0.6) else rng.uniform(-3, 9)
        shares = 10.0 ** (log + (rng.uniform(-1, 1, size=self.d) if case.chance(0.4) else 0.0))
        lengthscale = shares * extent
        case.scale(np.min(shares)), case.scale(np.max(shares) / 1e4)
        case.scale(np.min(lengthscale)), case.scale(np.max(lengthscale))
        # What the coordinates are in lengthscales: an offset in them is lost precision, and may be an overflow.
        case.scale(np.max(np.abs(self.X) / lengthscale))
        variance = 1.0 if case.chance(0.5) else float(10.0 ** rng.uniform(-100, 100))
        case.scale(case.note("variance", variance))
        self.alpha = float(10.0 ** rng.uniform(-1, 1.5)) if name == "RationalQuadratic" else 1.0
        case.note("lengthscale", lengthscale.tolist() if np.ndim(lengthscale) else float(lengthscale))
        self.name, self.variance = name, variance
        self.lengthscale = tuple(map(float, lengthscale)) if np.ndim(lengthscale) else float(lengthscale)
        if self.metric == "residual":
            self._draw_inducing()
        self.model = self._model()
        case.hostile |= self.model.vague

    def _kernel(self):
        more = {"alpha": self.alpha} if self.name == "RationalQuadratic" else {}
        return getattr(cx, self.name)(lengthscale=self.lengthscale, variance=self.variance, **more)

    def _model(self):
        return dense.Model(self.name, self.lengthscale, self.variance, self.alpha, self.Z, self.jitter)

    def _draw_inducing(self):
        case, rng = self.case, self.case.rng
        kind = case.pick("inducing", ("count", "rows", "coordinates"))
        m = case.note("m", int(rng.integers(1, min(self.n, 60) + 1)))
        self.seed = int(rng.integers(100))
        if kind == "count":
            self.inducing = m
            self.Z = self.X[np.sort(np.random.default_rng(self.seed).choice(self.n, m, replace=False))]
        elif kind == "rows":
            self.inducing = rng.permutation(self.n)[:m]
            self.Z = self.X[self.inducing]
        else:
            self.Z = self.inducing = self.X[rng.integers(self.n, size=m)] + self.size * rng.normal(size=(m, self.d))
        jitter = case.pick("jitter", ("default", 1e-6, 1e-3, 1e-9), (3, 2, 1, 1))
        self.jitter = None if jitter == "default" else jitter * self.variance
        self.supplied = case.note("supplied", case.chance(0.3))
        self.with_p = self.supplied and case.note("p_diag", case.chance(0.5))

    def _factors(self, X):
        """What the model says of `X`: the oracle's `Factors`, and arguments `v`, `p` in the caller's units."""
        of = self.model.factors(X)
        if not self.supplied:
            return of, None, None
        root = np.sqrt(self.variance)
        v, p = of.V * root, None
        if self.with_p:
            p = np.maximum(of.p, dense.P_FLOOR) * self.variance * (1.0 + self.nugget)
        return self.model.given(v, p), v, p

    # The run.

    def run(self, folder):
        """A `Verdict`; `folder` is for files."""
        case = self.case
        hits = total = 0
        try:
            self._make()
            for _ in range(int(case.note("mutations", case.rng.choice(3, p=(0.5, 0.35, 0.15))))):
                self._mutate(folder)
            if case.chance(0.1):
                case.note("prepare", True)
                self.tree.prepare(k=min(self.k, len(self.tree)))
            if case.chance(0.2):
                wrong = self._radius()
            else:
                wrong, hits, total = self._knn()
        except cx.CovertreexError as error:
            message = " ".join(str(error).split()[:5])
            return Verdict("refused", f"{type(error).__name__}: {message}", case.ordinary)
        if wrong:
            return Verdict("wrong", wrong, case.ordinary, hits, total)
        return Verdict("right", "", case.ordinary, hits, total)

    def _make(self):
        case = self.case
        self.alive = np.ones(self.n, dtype=bool)
        if self.metric == "euclid":
            self.tree = cx.cover_tree(self.X, n_threads=self.threads)
            return
        more = {}
        if self.metric == "residual":
            self.nugget = float(case.rng.choice([0.0, 0.1]))
            self.of, v, p = self._factors(self.X)
            if self.supplied:
                more = {"v_matrix": v, "p_diag": p}
            else:
                more = {"inducing": self.inducing, "seed": self.seed}
                if self.jitter is not None:
                    more["jitter"] = self.jitter
        self.tree = cx.cover_tree(self.X, kernel=self._kernel(), n_threads=self.threads, **more)

    def _mutate(self, folder):
        case, rng = self.case, self.case.rng
        kinds = ["insert", "delete", "load"]
        if self.metric != "euclid" and not self.supplied:
            kinds.append("with_metric")
        kind = kinds[rng.integers(len(kinds))]
        case.features.setdefault("did", []).append(kind)
        if case.chance(0.5):
            _ = self.tree.tree  # built before, or not
        if kind == "insert":
            new = self.X[rng.integers(len(self.X), size=int(rng.integers(1, 20)))]
            new = new if case.chance(0.3) else new + self.size * 10.0 ** rng.uniform(-3, 0) * rng.normal(size=new.shape)
            more = {}
            if self.metric == "residual":
                of, v, p = self._factors(new)
                self.of = joined(self.of, of)
                if self.supplied:
                    more = {"v_matrix": v} if p is None else {"v_matrix": v, "p_diag": p}
            self.tree = self.tree.insert(new, **more)
            self.X = np.concatenate([self.X, new])
            self.alive = np.concatenate([self.alive, np.ones(len(new), dtype=bool)])
        elif kind == "delete" and self.alive.sum() > 1:
            ids = np.flatnonzero(self.alive)
            gone = rng.permutation(ids)[: int(rng.integers(1, min(len(ids), 40 if case.chance(0.3) else 4)))]
            self.tree = self.tree.delete(gone)
            self.alive[gone] = False
        elif kind == "load":
            path = os.path.join(folder, f"{case.seed}.safetensors")
            self.tree.save(path)
            self.tree = cx.load(path, n_threads=self.threads)
        elif kind == "with_metric":
            factor = 10.0 ** rng.uniform(-0.5, 0.5)
            scale = np.asarray(self.lengthscale) * factor
            self.lengthscale = tuple(map(float, scale)) if scale.ndim else float(scale)
            if case.chance(0.5):
                self.name = KERNELS[rng.integers(5)]
            self.tree = self.tree.with_metric(self._kernel())
            self.model = self._model()
            case.hostile |= self.model.vague
            if self.metric == "residual":
                self.of = self.model.factors(self.X)

    def _questions(self):
        """Arguments of a search, `Pairs`, and which rows each query may have."""
        case, rng, ids = self.case, self.case.rng, np.flatnonzero(self.alive)
        kind = case.pick("queries", ("all", "some", "repeated", "near", "far", "few"), (3, 2, 1, 2, 1, 1))
        args, more = {}, {}
        external = kind in ("near", "far")
        if external:
            count = int(rng.integers(1, 40))
            away = 0.3 if kind == "near" else 10.0 ** rng.uniform(1, 6)
            Q = self.X[rng.integers(len(self.X), size=count)] + self.size * away * rng.normal(size=(count, self.d))
            case.scale(np.abs(Q).max())
            if self.metric != "euclid":
                case.scale(np.max(np.abs(Q) / self.lengthscale))
            args["queries"], rows = Q, None
            if self.metric == "residual":
                more["of_Q"], v, p = self._factors(Q)
                if self.supplied:
                    args.update({"v_query": v} if p is None else {"v_query": v, "p_query": p})
        else:
            rows = ids
            if kind == "some":
                rows = rng.permutation(ids)[: max(1, len(ids) // 4)]
            elif kind == "repeated":
                rows = ids[rng.integers(len(ids), size=30)]
            elif kind == "few":
                rows = ids[rng.integers(len(ids), size=3)]
            if kind != "all":
                args["queries"] = rows
            Q = self.X[rows]
            if self.metric == "residual":
                more["of_Q"] = taken(self.of, rows)
        q, n = len(Q), len(self.X)
        allowed = np.tile(self.alive, (q, 1))
        rank = np.arange(n)
        include = case.note("include_self", case.chance(0.2))
        before = case.pick("before", ("none", "predecessors", "limit"), (3, 2, 1))
        if before == "predecessors" and external:
            before = case.note("before", "limit")
        if before != "none" and case.note("order", case.chance(0.4)):
            args["order"] = rng.permutation(ids)
            rank = np.full(n, n)
            rank[args["order"]] = np.arange(len(ids))
        if before == "predecessors":
            args["predecessor_mode"] = True
            allowed &= rank[None, :] < (rank[rows] + 1)[:, None]
        elif before == "limit":
            most = len(ids) if "order" in args else n
            args["limit"] = rng.integers(0, most + 1, size=q) if case.chance(0.7) else int(rng.integers(0, most + 1))
            allowed &= rank[None, :] < np.broadcast_to(args["limit"], q)[:, None]
        if include:
            args["include_self"] = True
        elif rows is not None:
            allowed[np.arange(q), rows] = False
        if self.metric == "euclid":
            pairs = dense.euclid(self.X, Q)
        elif self.metric == "plain":
            pairs = self.model.pairs(self.X, Q)
        else:
            pairs = self.model.pairs(self.X, Q, self.of, more["of_Q"])
        if rows is not None:
            for i, row in enumerate(rows):
                pairs.same_point(i, row)
        how = {"settings": self.profile, "backend": self.backend}
        return {**args, **how}, pairs, allowed

    def _knn(self):
        args, pairs, allowed = self._questions()
        k = min(self.k, len(self.tree))
        indices, distances = self.tree.knn(k=k, return_distances=True, **args)
        exact = self.profile != "fast"
        if indices.shape != (len(allowed), k) or distances.shape != indices.shape:
            return f"shapes {indices.shape}, {distances.shape}", 0, 0
        hits = total = 0
        for i, mask in enumerate(allowed):
            wrong, right, of = dense.check_knn(pairs, i, mask, indices[i], distances[i], k, exact)
            if wrong:
                return f"query {i}: {wrong}", 0, 0
            hits, total = hits + right, total + of
        return ("", hits, total) if not exact else ("", 0, 0)

    def _radius(self):
        case, rng = self.case, self.case.rng
        args, pairs, allowed = self._questions()
        squares = pairs.high[np.isfinite(pairs.high)]
        radius = float(np.ldexp(np.sqrt(np.quantile(squares, rng.uniform(0, 0.5))), pairs.exponent))
        case.note("radius", radius)
        if self.metric != "euclid" and case.chance(0.4):
            rho = case.note("min_correlation", float(np.clip(1.0 - radius**2, 0.0, 1.0)))
            radius = float(np.sqrt(1.0 - rho))
            result = self.tree.radius(min_correlation=rho, **args)
        else:
            result = self.tree.radius(radius, **args)
        for i, mask in enumerate(allowed):
            part = slice(result.indptr[i], result.indptr[i + 1])
            wrong = dense.check_radius(pairs, i, mask, result.indices[part], result.distances[part], radius)
            if wrong:
                return f"query {i}: {wrong}"
        return ""


def taken(of, rows):
    """`Factors` of some rows."""
    return dense.Factors(
        of.V[rows],
        of.p[rows],
        None if of.weights is None else of.weights[rows],
        None if of.K is None else of.K[rows],
    )


def joined(of, more):
    """`Factors` of points and of others."""
    both = [
        None if a is None else np.concatenate([a, b])
        for a, b in zip(
            (of.V, of.p, of.weights, of.K),
            (more.V, more.p, more.weights, more.K),
            strict=True,
        )
    ]
    return dense.Factors(*both)


def judge(seed, backends, folder=None):
    """Run the case of `seed`; whatever else happens than an answer or a refusal is wrong too.

    Returns
    -------
    Verdict
    features : dict
    """
    drawn = Drawn(seed, backends)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if folder is not None:
                return drawn.run(folder), drawn.case.features
            with tempfile.TemporaryDirectory() as own:
                return drawn.run(own), drawn.case.features
    except Exception as error:
        return Verdict("wrong", f"{type(error).__name__}: {error}", drawn.case.ordinary), drawn.case.features


def installed():
    """Names of the backends that run."""
    return [info.name for info in cx.list_backends(load=True) if info.status == "ok"]
