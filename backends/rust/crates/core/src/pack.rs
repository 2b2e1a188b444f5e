//! Registers of a few lanes each, for the one loop that compilers do not vectorise well by themselves: the dot product.

/// Lanes in one register: element by element, IEEE multiplication and addition.
pub(crate) trait Pack: Copy {
    const LANES: usize;

    /// # Safety
    ///
    /// The processor must have the instructions of the register; so for the other functions.
    unsafe fn zero() -> Self;

    /// The first lanes of a slice that has so many.
    ///
    /// # Safety
    ///
    /// As for `zero`.
    unsafe fn load(from: &[f64]) -> Self;

    /// `self + a * b`, rounded twice.
    ///
    /// # Safety
    ///
    /// As for `zero`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// Into the first lanes of a slice that has so many.
    ///
    /// # Safety
    ///
    /// As for `zero`.
    unsafe fn store(self, to: &mut [f64]);
}

#[cfg(target_arch = "x86_64")]
macro_rules! pack {
    ($type:ident, $lanes:literal, $zero:ident, $load:ident, $store:ident, $add:ident, $mul:ident) => {
        impl Pack for std::arch::x86_64::$type {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the processor has the instruction, by the contract of the trait.
                unsafe { std::arch::x86_64::$zero() }
            }

            #[inline(always)]
            unsafe fn load(from: &[f64]) -> Self {
                let from = &from[..$lanes];
                // SAFETY: as above; and the slice has as many elements as the instruction reads, at any alignment.
                unsafe { std::arch::x86_64::$load(from.as_ptr()) }
            }

            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                // SAFETY: the processor has the instructions, by the contract of the trait.
                unsafe { std::arch::x86_64::$add(self, std::arch::x86_64::$mul(a, b)) }
            }

            #[inline(always)]
            unsafe fn store(self, to: &mut [f64]) {
                let to = &mut to[..$lanes];
                // SAFETY: as above; and the slice has as many elements as the instruction writes, at any alignment.
                unsafe { std::arch::x86_64::$store(to.as_mut_ptr(), self) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pack!(__m128d, 2, _mm_setzero_pd, _mm_loadu_pd, _mm_storeu_pd, _mm_add_pd, _mm_mul_pd);
#[cfg(target_arch = "x86_64")]
pack!(__m256d, 4, _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_mul_pd);
#[cfg(target_arch = "x86_64")]
pack!(__m512d, 8, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_mul_pd);

#[cfg(not(target_arch = "x86_64"))]
impl Pack for [f64; 2] {
    const LANES: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 2]
    }

    #[inline(always)]
    unsafe fn load(from: &[f64]) -> Self {
        [from[0], from[1]]
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        [self[0] + a[0] * b[0], self[1] + a[1] * b[1]]
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f64]) {
        to[..2].copy_from_slice(&self);
    }
}

/// Ask for a slice ahead of its use.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can see, and the address is that of a borrowed slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
