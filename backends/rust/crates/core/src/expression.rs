//! Correlations by tables, A10: sums of products of functions of squared scaled distances, each a piecewise polynomial.
//! `covertreex/kernels/table.py` makes them.

use std::ops::Range;

/// Coefficients of a piece.
type Piece = [f64; 8];

/// Groups of columns that there may be: their squared distances are kept on the stack.
const MOST_GROUPS: usize = 16;

/// Values that are computed side by side.
const SIDE: usize = 8;

/// The first bits of a number, which tell its piece: 5 of them of the fraction.
const PIECE_SHIFT: u32 = 47;
const PIECE_MASK: u64 = (1 << PIECE_SHIFT) - 1;
const PIECE_ONE: u64 = 0x3ff0_0000_0000_0000;

/// A function of t, the squared scaled distance.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Table<'a> {
    /// The number of the first piece, among all pieces of positive numbers.
    first: i64,
    /// At least one; the first serves all smaller t, and the last all larger ones.
    pieces: &'a [Piece],
}

impl<'a> Table<'a> {
    #[inline(always)]
    fn piece(&self, t: f64) -> &'a Piece {
        let number = (t.to_bits() as i64 >> PIECE_SHIFT).wrapping_sub(self.first);
        &self.pieces[number.clamp(0, self.pieces.len() as i64 - 1) as usize]
    }

    /// A10: the value at `t >= 0`.
    #[inline(always)]
    fn value(&self, t: f64) -> f64 {
        let a = self.piece(t);
        let u = place(t);
        let u2 = u * u;
        let e = a[6] + a[7] * u;
        let e = (a[4] + a[5] * u) + u2 * e;
        let e = (a[2] + a[3] * u) + u2 * e;
        a[0] + (a[1] * u + u2 * e)
    }

    /// A10: several values.
    #[inline(always)]
    fn values(&self, t: &[f64; SIDE]) -> [f64; SIDE] {
        t.map(|t| self.value(t))
    }
}

/// Where in its piece a number is, from -1 to 1.
#[inline(always)]
fn place(t: f64) -> f64 {
    (f64::from_bits((t.to_bits() & PIECE_MASK) | PIECE_ONE) - 1.015625) * 64.0
}

#[derive(Clone, Debug, PartialEq)]
struct Factor<'a> {
    group: usize,
    table: Table<'a>,
    /// By whose value at the squared distance in a group that of the factor is multiplied first.
    rescale: Option<(usize, Table<'a>)>,
}

/// The arrays of a `covertreex.kernels.Expression`, which says what each is.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ExpressionArrays<'a> {
    pub group_stop: &'a [i64],
    pub term_stop: &'a [i64],
    pub weight: &'a [f64],
    pub factor_group: &'a [i64],
    pub factor_table: &'a [i64],
    pub rescale_group: &'a [i64],
    pub rescale_table: &'a [i64],
    pub table_first: &'a [i64],
    pub table_stop: &'a [i64],
    /// (pieces, 8).
    pub pieces: &'a [f64],
}

/// A correlation by tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression<'a> {
    /// The columns of each group.
    groups: Vec<Range<usize>>,
    /// Weight and factors of each term.
    terms: Vec<(f64, Range<usize>)>,
    factors: Vec<Factor<'a>>,
}

impl<'a> Expression<'a> {
    /// Of its arrays.
    ///
    /// # Errors
    ///
    /// If they do not fit each other: which.
    pub fn new(arrays: ExpressionArrays<'a>) -> Result<Expression<'a>, String> {
        let wrong = |name: &str, expected: &str| format!("payload.expression.{name} must {expected}.");
        let groups =
            ranges(arrays.group_stop).filter(|groups| (1..=MOST_GROUPS).contains(&groups.len()) && full(groups));
        let groups = groups.ok_or_else(|| wrong("group_stop", "have 1 to 16 groups, each with columns"))?;
        let (pieces, rest) = arrays.pieces.as_chunks();
        let tables = ranges(arrays.table_stop).filter(|tables| ends_at(tables, pieces.len()) && full(tables));
        let tables = tables.filter(|_| rest.is_empty());
        let tables = tables.ok_or_else(|| wrong("table_stop", "ascend to the number of pieces"))?;
        if arrays.table_first.len() != tables.len() {
            return Err(wrong("table_first", "be as long as table_stop"));
        }
        let tables: Vec<Table> = tables
            .into_iter()
            .zip(arrays.table_first)
            .map(|(range, &first)| Table { first, pieces: &pieces[range] })
            .collect();

        let count = arrays.factor_group.len();
        let others = [arrays.factor_table, arrays.rescale_group, arrays.rescale_table];
        if others.iter().any(|array| array.len() != count) {
            return Err(wrong("factor_group", "be as long as factor_table, rescale_group and rescale_table"));
        }
        let group = |number: i64| usize::try_from(number).ok().filter(|&group| group < groups.len());
        let table = |number: i64| usize::try_from(number).ok().and_then(|number| tables.get(number)).copied();
        let mut factors = Vec::with_capacity(count);
        for f in 0..count {
            let rescale = match arrays.rescale_table[f] {
                ..0 => None,
                number => Some((
                    group(arrays.rescale_group[f]).ok_or_else(|| wrong("rescale_group", "be numbers of groups"))?,
                    table(number).ok_or_else(|| wrong("rescale_table", "be numbers of tables, or negative"))?,
                )),
            };
            factors.push(Factor {
                group: group(arrays.factor_group[f]).ok_or_else(|| wrong("factor_group", "be numbers of groups"))?,
                table: table(arrays.factor_table[f]).ok_or_else(|| wrong("factor_table", "be numbers of tables"))?,
                rescale,
            });
        }
        let terms = ranges(arrays.term_stop).filter(|terms| ends_at(terms, count));
        let terms = terms.ok_or_else(|| wrong("term_stop", "ascend to the number of factors"))?;
        if arrays.weight.len() != terms.len() {
            return Err(wrong("weight", "be as long as term_stop"));
        }
        Ok(Expression { groups, terms: arrays.weight.iter().copied().zip(terms).collect(), factors })
    }

    /// Scaled coordinates of the points that it compares.
    pub fn dim(&self) -> usize {
        self.groups.last().map_or(0, |columns| columns.end)
    }

    /// A10: the correlation of two points, of scaled coordinates.
    #[inline]
    pub fn value(&self, a: &[f64], b: &[f64]) -> f64 {
        let mut squares = [0.0; MOST_GROUPS];
        for (t, columns) in squares.iter_mut().zip(&self.groups) {
            for (x, y) in a[columns.clone()].iter().zip(&b[columns.clone()]) {
                let off = x - y;
                *t += off * off;
            }
        }
        let mut total = 0.0;
        for (weight, factors) in &self.terms {
            let mut term = *weight;
            for factor in &self.factors[factors.clone()] {
                let mut t = squares[factor.group];
                if let Some((group, table)) = &factor.rescale {
                    t *= table.value(squares[*group]);
                }
                term *= factor.table.value(t);
            }
            total += term;
        }
        total
    }
}

/// What begins where the one before ends, and ends at each of `stops`; None if they do not ascend.
fn ranges(stops: &[i64]) -> Option<Vec<Range<usize>>> {
    let mut start = 0;
    let range = |&stop: &i64| {
        let stop = usize::try_from(stop).ok().filter(|&stop| stop >= start)?;
        Some(std::mem::replace(&mut start, stop)..stop)
    };
    stops.iter().map(range).collect()
}

fn full(ranges: &[Range<usize>]) -> bool {
    ranges.iter().all(|range| !range.is_empty())
}

fn ends_at(ranges: &[Range<usize>], end: usize) -> bool {
    ranges.last().is_some_and(|range| range.end == end)
}

/// A10 for a point and the first `out.len()` points of a panel: axis after axis, `stride`, a multiple of 8, to an axis.
/// Covariances, for this variance.
#[inline(always)]
pub(crate) fn covariances_body(
    expression: &Expression,
    variance: f64,
    point: &[f64],
    panel: &[f64],
    stride: usize,
    out: &mut [f64],
) {
    let mut squares = [[0.0; SIDE]; MOST_GROUPS];
    for (start, out) in (0..stride).step_by(SIDE).zip(out.chunks_mut(SIDE)) {
        for (t, columns) in squares.iter_mut().zip(&expression.groups) {
            *t = [0.0; SIDE];
            for axis in columns.clone() {
                for (t, y) in t.iter_mut().zip(&panel[axis * stride + start..][..SIDE]) {
                    let off = point[axis] - y;
                    *t += off * off;
                }
            }
        }
        let mut total = [0.0; SIDE];
        for (weight, factors) in &expression.terms {
            let mut term = [*weight; SIDE];
            for factor in &expression.factors[factors.clone()] {
                let mut t = squares[factor.group];
                if let Some((group, table)) = &factor.rescale {
                    multiply(&mut t, &table.values(&squares[*group]));
                }
                multiply(&mut term, &factor.table.values(&t));
            }
            for (total, term) in total.iter_mut().zip(term) {
                *total += term;
            }
        }
        for (out, total) in out.iter_mut().zip(total) {
            *out = variance * total;
        }
    }
}

#[inline(always)]
fn multiply(values: &mut [f64; SIDE], by: &[f64; SIDE]) {
    for (value, by) in values.iter_mut().zip(by) {
        *value *= by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces numbered so that each value tells its piece and its place in it.
    fn pieces() -> Vec<f64> {
        (0..4).flat_map(|number| [f64::from(number), 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).collect()
    }

    /// The first piece begins at 1.
    const FIRST: i64 = (PIECE_ONE >> PIECE_SHIFT) as i64;

    fn arrays<'a>(pieces: &'a [f64]) -> ExpressionArrays<'a> {
        ExpressionArrays {
            group_stop: &[2, 3],
            term_stop: &[1, 3],
            weight: &[0.75, 0.25],
            factor_group: &[0, 1, 0],
            factor_table: &[0, 0, 0],
            rescale_group: &[-1, -1, 1],
            rescale_table: &[-1, -1, 0],
            table_first: &[FIRST],
            table_stop: &[4],
            pieces,
        }
    }

    #[test]
    fn a_number_finds_its_piece_and_its_place() {
        let pieces = pieces();
        let table = Table { first: FIRST, pieces: pieces.as_chunks().0 };
        assert_eq!(table.value(1.0), 0.0 - 0.25);
        assert_eq!(table.value(1.0 + 1.0 / 64.0), 0.0);
        assert_eq!(table.value(1.0 + 1.0 / 32.0), 1.0 - 0.25);
        assert_eq!(table.value(1.0 + 3.5 / 32.0), 3.0);
        // All that is smaller or larger has the first or the last piece.
        for (t, number) in [(0.0, 0.0), (5e-324, 0.0), (0.99, 0.0), (1.5, 3.0), (f64::MAX, 3.0)] {
            assert_eq!(table.value(t), number + 0.25 * place(t), "{t}");
        }
    }

    #[test]
    fn a_polynomial_is_evaluated_in_the_order_of_a10() {
        let a: Piece = std::array::from_fn(|power| 1.0 / (power as f64 + 1.7));
        let table = Table { first: FIRST, pieces: &[a] };
        for t in [0.1, 1.0, 1.3, 2.9, 1e9] {
            let u = (t / 2f64.powf(f64::log2(t).floor()) % (1.0 / 32.0) + 1.0 - 1.015625) * 64.0;
            let close: f64 = (0..8).map(|power| a[power] * u.powi(power as i32)).sum();
            assert!((table.value(t) - close).abs() < 1e-12, "{t}");
            let (u, u2) = (place(t), place(t) * place(t));
            let high = (a[4] + a[5] * u) + u2 * (a[6] + a[7] * u);
            assert_eq!(table.value(t), a[0] + (a[1] * u + u2 * ((a[2] + a[3] * u) + u2 * high)));
        }
    }

    #[test]
    fn terms_are_summed_and_factors_multiplied_in_order() {
        let pieces = pieces();
        let expression = Expression::new(arrays(&pieces)).unwrap();
        assert_eq!(expression.dim(), 3);
        let table = Table { first: FIRST, pieces: pieces.as_chunks().0 };
        let (a, b) = ([0.1, 0.7, 0.3], [1.0, 0.9, 1.35]);
        let t0 = (0.1f64 - 1.0) * (0.1 - 1.0) + (0.7f64 - 0.9) * (0.7 - 0.9);
        let t1 = (0.3f64 - 1.35) * (0.3 - 1.35);
        let second = 0.25 * table.value(t1) * table.value(t0 * table.value(t1));
        assert_eq!(expression.value(&a, &b), (0.0 + 0.75 * table.value(t0)) + second);
    }

    #[test]
    fn many_values_are_those_of_one_by_one() {
        let pieces = pieces();
        let expression = Expression::new(arrays(&pieces)).unwrap();
        let (stride, point) = (16, [0.2, -0.4, 0.9]);
        let panel: Vec<f64> = (0..3 * stride).map(|i| (i as f64 * 0.7).sin()).collect();
        for count in 0..=stride {
            let mut out = vec![f64::NAN; count];
            covariances_body(&expression, 1.3, &point, &panel, stride, &mut out);
            for (i, value) in out.iter().enumerate() {
                let other = [panel[i], panel[stride + i], panel[2 * stride + i]];
                assert_eq!(*value, 1.3 * expression.value(&point, &other));
            }
        }
    }

    #[test]
    fn arrays_that_do_not_fit_are_named() {
        let pieces = pieces();
        let good = arrays(&pieces);
        for (wrong, name) in [
            (ExpressionArrays { group_stop: &[], ..good }, "group_stop"),
            (ExpressionArrays { group_stop: &[2, 2], ..good }, "group_stop"),
            (ExpressionArrays { group_stop: &[-1, 2], ..good }, "group_stop"),
            (ExpressionArrays { term_stop: &[1, 2], ..good }, "term_stop"),
            (ExpressionArrays { term_stop: &[], weight: &[], ..good }, "term_stop"),
            (ExpressionArrays { weight: &[1.0], ..good }, "weight"),
            (ExpressionArrays { factor_group: &[0, 1], ..good }, "factor_group"),
            (ExpressionArrays { factor_group: &[0, 1, 2], ..good }, "factor_group"),
            (ExpressionArrays { factor_table: &[0, 1, 0], ..good }, "factor_table"),
            (ExpressionArrays { factor_table: &[0, -1, 0], ..good }, "factor_table"),
            (ExpressionArrays { rescale_group: &[-1, -1, 2], ..good }, "rescale_group"),
            (ExpressionArrays { rescale_table: &[-1, -1, 1], ..good }, "rescale_table"),
            (ExpressionArrays { table_first: &[], ..good }, "table_first"),
            (ExpressionArrays { table_stop: &[3], ..good }, "table_stop"),
            (ExpressionArrays { table_stop: &[4, 4], ..good }, "table_stop"),
            (ExpressionArrays { pieces: &pieces[1..], ..good }, "table_stop"),
        ] {
            let said = Expression::new(wrong).unwrap_err();
            assert!(said.starts_with(&format!("payload.expression.{name} must")), "{name}: {said}");
        }
    }
}
