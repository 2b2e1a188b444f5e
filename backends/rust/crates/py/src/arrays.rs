//! The driver's objects, read attribute by attribute: their arrays are borrowed, never copied.

use std::sync::atomic::AtomicI32;

use covertreex_core::expression::{Expression, ExpressionArrays};
use covertreex_core::metric::Metric;
use covertreex_core::simd::Simd;
use covertreex_core::views::{Output, Payload, Plan, Queries, Settings, TreeView};
use numpy::{
    Element, PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The exception for what is said to be wrong.
pub fn refused(what: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("covertreex-rust: {what}"))
}

fn not_contiguous(name: &str) -> PyErr {
    PyValueError::new_err(format!("covertreex-rust: {name} must be a C-contiguous, aligned array."))
}

fn flat<'a, T: Element>(array: &'a PyReadonlyArray1<'_, T>, name: &str) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| not_contiguous(name))
}

fn table<'a, T: Element>(array: &'a PyReadonlyArray2<'_, T>, name: &str) -> PyResult<&'a [T]> {
    if array.is_c_contiguous() { array.as_slice().map_err(|_| not_contiguous(name)) } else { Err(not_contiguous(name)) }
}

fn table_mut<'a, T: Element>(array: &'a mut PyReadwriteArray2<'_, T>, name: &str) -> PyResult<&'a mut [T]> {
    if array.is_c_contiguous() {
        array.as_slice_mut().map_err(|_| not_contiguous(name))
    } else {
        Err(not_contiguous(name))
    }
}

/// A `covertreex.data.payload.PayloadStore`.
#[derive(FromPyObject)]
pub struct PayloadArrays<'py> {
    metric: i64,
    kernel_code: i64,
    variance: f64,
    alpha: f64,
    coords: PyReadonlyArray2<'py, f64>,
    factors: PyReadonlyArray2<'py, f64>,
    p: PyReadonlyArray1<'py, f64>,
    index: PyReadonlyArray1<'py, i64>,
    slack_rel: f64,
    expression: Option<Tables<'py>>,
}

/// A `covertreex.kernels.Expression`.
#[derive(FromPyObject)]
struct Tables<'py> {
    group_stop: PyReadonlyArray1<'py, i64>,
    term_stop: PyReadonlyArray1<'py, i64>,
    weight: PyReadonlyArray1<'py, f64>,
    factor_group: PyReadonlyArray1<'py, i64>,
    factor_table: PyReadonlyArray1<'py, i64>,
    rescale_group: PyReadonlyArray1<'py, i64>,
    rescale_table: PyReadonlyArray1<'py, i64>,
    table_first: PyReadonlyArray1<'py, i64>,
    table_stop: PyReadonlyArray1<'py, i64>,
    pieces: PyReadonlyArray2<'py, f64>,
}

impl Tables<'_> {
    fn view(&self) -> PyResult<Expression<'_>> {
        if self.pieces.shape()[1] != 8 {
            return Err(refused("payload.expression.pieces must have 8 columns."));
        }
        Expression::new(ExpressionArrays {
            group_stop: flat(&self.group_stop, "payload.expression.group_stop")?,
            term_stop: flat(&self.term_stop, "payload.expression.term_stop")?,
            weight: flat(&self.weight, "payload.expression.weight")?,
            factor_group: flat(&self.factor_group, "payload.expression.factor_group")?,
            factor_table: flat(&self.factor_table, "payload.expression.factor_table")?,
            rescale_group: flat(&self.rescale_group, "payload.expression.rescale_group")?,
            rescale_table: flat(&self.rescale_table, "payload.expression.rescale_table")?,
            table_first: flat(&self.table_first, "payload.expression.table_first")?,
            table_stop: flat(&self.table_stop, "payload.expression.table_stop")?,
            pieces: table(&self.pieces, "payload.expression.pieces")?,
        })
        .map_err(refused)
    }
}

impl PayloadArrays<'_> {
    /// The correlation by tables, if that is the kernel: what `view` borrows.
    pub fn expression(&self) -> PyResult<Option<Expression<'_>>> {
        self.expression.as_ref().map(Tables::view).transpose()
    }

    pub fn view<'a>(&'a self, expression: Option<&'a Expression<'a>>) -> PyResult<Payload<'a>> {
        let metric = Metric::from_codes(self.metric, self.kernel_code, self.variance, self.alpha, expression);
        Ok(Payload {
            metric: metric.map_err(refused)?,
            dim: self.coords.shape()[1],
            coords: table(&self.coords, "payload.coords")?,
            width: self.factors.shape()[1],
            factors: table(&self.factors, "payload.factors")?,
            p: flat(&self.p, "payload.p")?,
            index: flat(&self.index, "payload.index")?,
            slack_rel: self.slack_rel,
            simd: Simd::detect(),
        })
    }
}

/// A `covertreex.data.tree.Tree`.
#[derive(FromPyObject)]
pub struct TreeArrays<'py> {
    root: usize,
    level: PyReadonlyArray1<'py, i64>,
    child_ptr: PyReadonlyArray1<'py, i64>,
    children: PyReadonlyArray1<'py, i64>,
    parent_distance: PyReadonlyArray1<'py, f64>,
    si: PyReadonlyArray1<'py, f64>,
}

impl TreeArrays<'_> {
    pub fn view(&self) -> PyResult<TreeView<'_>> {
        Ok(TreeView {
            root: self.root,
            level: flat(&self.level, "tree.level")?,
            child_ptr: flat(&self.child_ptr, "tree.child_ptr")?,
            children: flat(&self.children, "tree.children")?,
            parent_distance: flat(&self.parent_distance, "tree.parent_distance")?,
            si: flat(&self.si, "tree.si")?,
        })
    }
}

/// A `covertreex.protocols.QueryBlock`.
#[derive(FromPyObject)]
pub struct QueryArrays<'py> {
    rows: PyReadonlyArray1<'py, i64>,
    coords: PyReadonlyArray2<'py, f64>,
    factors: PyReadonlyArray2<'py, f64>,
    p: PyReadonlyArray1<'py, f64>,
    exclude: PyReadonlyArray1<'py, i64>,
    limit: PyReadonlyArray1<'py, i64>,
    rank: PyReadonlyArray1<'py, i64>,
    prefix: bool,
    slack_abs: f64,
}

impl QueryArrays<'_> {
    pub fn view(&self) -> PyResult<Queries<'_>> {
        Ok(Queries {
            rows: flat(&self.rows, "queries.rows")?,
            coords: table(&self.coords, "queries.coords")?,
            factors: table(&self.factors, "queries.factors")?,
            p: flat(&self.p, "queries.p")?,
            exclude: flat(&self.exclude, "queries.exclude")?,
            limit: flat(&self.limit, "queries.limit")?,
            rank: flat(&self.rank, "queries.rank")?,
            prefix: self.prefix,
            slack_abs: self.slack_abs,
        })
    }
}

/// A `covertreex.protocols.ScanPlan`.
#[derive(FromPyObject)]
pub struct PlanArrays<'py> {
    queries: QueryArrays<'py>,
    group_ptr: PyReadonlyArray1<'py, i64>,
    run_ptr: PyReadonlyArray1<'py, i64>,
    run_start: PyReadonlyArray1<'py, i64>,
    run_stop: PyReadonlyArray1<'py, i64>,
    run_lower: PyReadonlyArray1<'py, f64>,
    kth_upper: PyReadonlyArray1<'py, f64>,
}

impl PlanArrays<'_> {
    pub fn view(&self) -> PyResult<Plan<'_>> {
        Ok(Plan {
            queries: self.queries.view()?,
            group_ptr: flat(&self.group_ptr, "plan.group_ptr")?,
            run_ptr: flat(&self.run_ptr, "plan.run_ptr")?,
            run_start: flat(&self.run_start, "plan.run_start")?,
            run_stop: flat(&self.run_stop, "plan.run_stop")?,
            run_lower: flat(&self.run_lower, "plan.run_lower")?,
            kth_upper: flat(&self.kth_upper, "plan.kth_upper")?,
        })
    }
}

/// A `covertreex.TraversalSettings`, as far as kernels heed it.
#[derive(FromPyObject)]
pub struct SettingsValues {
    kth_frontier_stop: bool,
    stream_tile: usize,
    dynamic_tile: bool,
    level_cache: bool,
    radius_floor: f64,
    budget_schedule: Vec<i64>,
    budget_up: f64,
    budget_down: f64,
    level_cap: i64,
}

impl From<SettingsValues> for Settings {
    fn from(values: SettingsValues) -> Settings {
        Settings {
            kth_frontier_stop: values.kth_frontier_stop,
            stream_tile: values.stream_tile,
            dynamic_tile: values.dynamic_tile,
            level_cache: values.level_cache,
            radius_floor: values.radius_floor,
            budget_schedule: values.budget_schedule,
            budget_up: values.budget_up,
            budget_down: values.budget_down,
            level_cap: values.level_cap,
        }
    }
}

/// A `covertreex.protocols.SearchOutput`.
#[derive(FromPyObject)]
pub struct OutArrays<'py> {
    indices: PyReadwriteArray2<'py, i64>,
    distances: PyReadwriteArray2<'py, f64>,
    counters: PyReadwriteArray2<'py, i64>,
    cancel: Bound<'py, PyArray1<i32>>,
}

impl<'py> OutArrays<'py> {
    /// The arrays to write to, and the driver's flag.
    pub fn view(&mut self, k: usize) -> PyResult<(Output<'_>, &AtomicI32)> {
        if self.cancel.len() != 1 {
            return Err(PyValueError::new_err("covertreex-rust: out.cancel must have length 1."));
        }
        // SAFETY: the array holds one aligned i32 (NumPy allocates so, and the driver makes no views into the middle
        // of one) and outlives the reference, which borrows `self`. Only the driver writes to it, a whole word at once.
        let cancel = unsafe { AtomicI32::from_ptr(self.cancel.data()) };
        let output = Output {
            k,
            columns: self.counters.shape()[1],
            indices: table_mut(&mut self.indices, "out.indices")?,
            distances: table_mut(&mut self.distances, "out.distances")?,
            counters: table_mut(&mut self.counters, "out.counters")?,
        };
        Ok((output, cancel))
    }
}
