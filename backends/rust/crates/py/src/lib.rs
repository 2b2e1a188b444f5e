//! The Python binding of `covertreex-core`: NumPy arrays are borrowed, the GIL is released while a block is answered,
//! and a panic becomes a Python exception.

mod arrays;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicI32;

use covertreex_core::contract as built;
use covertreex_core::kernel::{Kernel, kernel_value};
use covertreex_core::metric::unknown;
use covertreex_core::simd::Simd;
use covertreex_core::views::InputError;
use covertreex_core::{scan_block, search_block};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use arrays::{OutArrays, PayloadArrays, PlanArrays, QueryArrays, SettingsValues, TreeArrays, refused};

/// Compiled search and scan; use them through `covertreex_rust.backend`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{contract, instructions, kernel_values, protocol_version, scan, search};
}

/// Walk a cover tree: see `covertreex.protocols.Traversal.search`.
#[pyfunction]
fn search(
    py: Python<'_>,
    tree: TreeArrays<'_>,
    payload: PayloadArrays<'_>,
    queries: QueryArrays<'_>,
    k: usize,
    settings: SettingsValues,
    mut out: OutArrays<'_>,
) -> PyResult<()> {
    let expression = payload.expression()?;
    let (tree, payload, queries) = (tree.view()?, payload.view(expression.as_ref())?, queries.view()?);
    let settings = settings.into();
    let (mut output, cancel) = out.view(k)?;
    answer(py, cancel, |cancel| search_block(&tree, &payload, &queries, &settings, cancel, &mut output))
}

/// Walk a scan plan: see `covertreex.protocols.Traversal.scan`.
#[pyfunction]
fn scan(
    py: Python<'_>,
    payload: PayloadArrays<'_>,
    plan: PlanArrays<'_>,
    k: usize,
    settings: SettingsValues,
    mut out: OutArrays<'_>,
) -> PyResult<()> {
    let expression = payload.expression()?;
    let (payload, plan) = (payload.view(expression.as_ref())?, plan.view()?);
    let settings = settings.into();
    let (mut output, cancel) = out.view(k)?;
    answer(py, cancel, |cancel| scan_block(&payload, &plan, &settings, cancel, &mut output))
}

/// The instruction level that distances are computed with here: 'Baseline', 'Avx2' or 'Avx512'.
#[pyfunction]
fn instructions() -> String {
    Simd::detect().to_string()
}

/// What `covertreex.base.contract.CONTRACT` was when this was built.
#[pyfunction]
fn contract(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let facts = PyDict::new(py);
    facts.set_item("protocol", built::PROTOCOL_VERSION.0)?;
    facts.set_item("lanes", built::LANES)?;
    facts.set_item("metrics", built::METRICS.into_py_dict(py)?)?;
    facts.set_item("no_kernel", built::NO_KERNEL)?;
    facts.set_item("kernels", built::KERNELS.into_py_dict(py)?)?;
    facts.set_item("expression", built::EXPRESSION)?;
    facts.set_item("counters", built::COUNTERS.to_vec())?;
    Ok(facts)
}

/// The version of the protocol that this needs: major and minor.
#[pyfunction]
fn protocol_version() -> (i64, i64) {
    built::PROTOCOL_VERSION
}

/// A4: kernel values at squared scaled distances; a ValueError if no kernel has this code.
#[pyfunction]
fn kernel_values(code: i64, variance: f64, alpha: f64, r2: Vec<f64>) -> PyResult<Vec<f64>> {
    let kernel = Kernel::from_code(code, alpha).ok_or_else(|| refused(unknown("kernel", code, &built::KERNELS)))?;
    Ok(r2.into_iter().map(|r2| kernel_value(kernel, variance, r2)).collect())
}

/// Run a kernel without the GIL.
fn answer(
    py: Python<'_>,
    cancel: &AtomicI32,
    kernel: impl FnOnce(&AtomicI32) -> Result<(), InputError> + Send,
) -> PyResult<()> {
    // A panic can leave nothing broken but the output, and the exception says that this is void.
    match py.detach(|| catch_unwind(AssertUnwindSafe(|| kernel(cancel)))) {
        Ok(result) => result.map_err(refused),
        Err(panic) => {
            let reason = panic.downcast_ref::<String>().map(String::as_str);
            let reason = reason.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown reason");
            Err(PyRuntimeError::new_err(format!(
                "covertreex-rust failed ({reason}): an array holds a row number that points outside another, or this \
                 is a bug; the output is void."
            )))
        }
    }
}
