//! The products of a prompt by NVIDIA's cuBLASLt, with bias, GELU and residual as its epilogues.
//!
//! It thinks in columns: a matrix is its columns, one behind another. So a row-major y = x W^T is told to it as
//! D = op(A) B with D = y^T, A = W^T turned back by op, and B = x^T, none of which moves a number.
//! Products are true f32 where weights are f32 (never TF32), and exact with sums in f32 where they are bf16.
//!
//! What a call needs is looked up once, when a plan is made ready: descriptors, and the algorithm that the
//! library's heuristic puts first. Playing a plan makes the call and nothing else.
//!
//! Invariant: no function of the library is called before [`Libraries`] has found it.

use std::ffi::c_void;
use std::ptr::from_ref;
use std::sync::Arc;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::driver::call;
use super::plan::{Argument, Buffer, Launch, Operation, Weights};
use super::{CudaError, Libraries, Library};

/// Memory that algorithms may work in: what NVIDIA advises for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Alignment that cuBLASLt takes for granted unless it is told of less.
const ALIGNMENT: u32 = 256;

/// The library with its memory, for one stream.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
}

/// One product, ready to be made.
pub(super) struct Product {
    description: Description,
    layouts: [Layout; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
    terms: Terms,
    /// Of A, B and D.
    addresses: [u64; 3],
}

/// A product in the library's terms: D = op(A) B + beta D. op turns A over.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Terms {
    /// Of A, B and D.
    matrices: [Matrix; 3],
    beta: f32,
    epilogue: Epilogue,
}

/// Column by column, each behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Matrix {
    rows: u64,
    columns: u64,
    number: Weights,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Epilogue {
    None,
    /// Adds a number of D's format to each row.
    Bias,
    /// The same, then GELU by its tanh approximation, which is GPT-2's.
    Gelu,
}

impl Terms {
    /// `[rows, inputs, outputs]`: y `[rows][outputs]` = x `[rows][inputs]` W^T, W `[outputs][inputs]`.
    fn new(operation: Operation, weights: Weights, [rows, inputs, outputs]: [u64; 3]) -> Terms {
        let matrix = |rows, columns, number| Matrix { rows, columns, number };
        let (beta, epilogue, result) = match operation {
            Operation::LibraryGelu => (0.0, Epilogue::Gelu, weights),
            Operation::LibraryResidual => (1.0, Epilogue::Bias, Weights::F32),
            _ => (0.0, Epilogue::None, Weights::F32),
        };
        let (a, b) = (matrix(inputs, outputs, weights), matrix(inputs, rows, weights));
        Terms { matrices: [a, b, matrix(outputs, rows, result)], beta, epilogue }
    }
}

impl CublasLt {
    /// The library, working in `stream`.
    ///
    /// # Errors
    /// No library, or no memory for it.
    pub(super) fn new(libraries: &Libraries, stream: &Arc<CudaStream>) -> Result<CublasLt, CudaError> {
        libraries.place(Library::CublasLt)?;
        // SAFETY: nobody reads it before the library has written it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE_BYTES) };
        let workspace = call(format!("make room for cuBLASLt ({WORKSPACE_BYTES} bytes)"), workspace)?;
        let handle = told("begin with cuBLASLt", result::create_handle())?;
        Ok(CublasLt { handle, workspace })
    }

    /// Makes a launch of the library ready; `address` says where an argument points.
    ///
    /// # Errors
    /// A product that the library has no algorithm for.
    ///
    /// # Panics
    /// For a launch that is not the library's.
    pub(super) fn prepare(
        &self,
        launch: &Launch,
        address: impl Fn(Buffer, usize) -> u64,
    ) -> Result<Product, CudaError> {
        let (mut pointers, mut numbers) = (Vec::new(), Vec::new());
        for argument in &launch.arguments {
            match *argument {
                Argument::Buffer { id, offset } => pointers.push(address(id, offset)),
                Argument::Int(number) => numbers.push(u64::try_from(number).expect("a size")),
                Argument::Float(_) => {}
            }
        }
        let weights = launch.kernel.weights.expect("a product has weights");
        let sizes: [u64; 3] = numbers.try_into().expect("rows, inputs and outputs");
        let terms = Terms::new(launch.kernel.operation, weights, sizes);
        // x, weights, perhaps a bias, y.
        let (x, w) = (pointers[0], pointers[1]);
        let (bias, y) = match pointers[2..] {
            [bias, y] => (Some(bias), y),
            _ => (None, pointers[2]),
        };
        let what = format!("multiply {sizes:?} by {}", launch.kernel.name());
        let addresses = [w, x, y];
        self.product(terms, addresses, bias).map_err(|error| failed(&what, error))
    }

    fn product(&self, terms: Terms, addresses: [u64; 3], bias: Option<u64>) -> Result<Product, CublasError> {
        let description = Description::new(terms.epilogue, bias)?;
        let [a, b, d] = terms.matrices;
        let layouts = [Layout::new(a)?, Layout::new(b)?, Layout::new(d)?];
        let preference = Preference::new(addresses)?;
        let [a, b, d] = layouts.each_ref().map(|layout| layout.0);
        // SAFETY: everything handed over was made above and is alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(self.handle, description.0, a, b, d, d, preference.0)?
        };
        Ok(Product { description, layouts, algorithm: found.algo, terms, addresses })
    }

    /// Queues a product.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn fire(&self, product: &Product, stream: &Arc<CudaStream>) -> Result<(), CudaError> {
        let alpha = 1.0_f32;
        let [a, b, d] = product.layouts.each_ref().map(|layout| layout.0);
        let [a_at, b_at, d_at] = product.addresses.map(|address| address as *mut c_void);
        let workspace = self.workspace.device_ptr(stream).0;
        // SAFETY: descriptors, algorithm and addresses belong together: `product` made them for one another.
        // The addresses lie in buffers that `Device` holds; C and D are the same memory with the same layout,
        // which the library allows. The factors are read before the call returns.
        let queued = unsafe {
            result::matmul(
                self.handle,
                product.description.0,
                from_ref(&alpha).cast(),
                from_ref(&product.terms.beta).cast(),
                a_at,
                a,
                b_at,
                b,
                d_at,
                d,
                d_at,
                d,
                &product.algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        };
        told("multiply", queued)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed here alone; `Device` waits for its stream before it drops this.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// How a product is computed and how it ends.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(epilogue: Epilogue, bias: Option<u64>) -> Result<Description, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let made = Description(result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?);
        // `cublasOperation_t::CUBLAS_OP_T`
        made.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1_i32)?;
        let epilogue = match epilogue {
            Epilogue::None => return Ok(made),
            Epilogue::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::Gelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        made.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as u32))?;
        let bias = bias.expect("an epilogue has a bias");
        made.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        Ok(made)
    }

    fn set<T: Copy>(&self, which: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the descriptor is alive; the library copies as many bytes as it is told, which are `value`'s.
        unsafe { result::set_matmul_desc_attribute(self.0, which, from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Where the numbers of a matrix lie.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(matrix: Matrix) -> Result<Layout, CublasError> {
        let number = match matrix.number {
            Weights::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Weights::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let Matrix { rows, columns, .. } = matrix;
        result::create_matrix_layout(number, rows, columns, rows as i64).map(Layout)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may take for granted.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// For A, B and D at these addresses.
    fn new([a, b, d]: [u64; 3]) -> Result<Preference, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let made = Preference(result::create_matmul_pref()?);
        made.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE_BYTES)?;
        for (which, address) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d),
        ] {
            made.set(which, &alignment(address))?;
        }
        Ok(made)
    }

    fn set<T: Copy>(
        &self,
        which: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        // SAFETY: as for a description's attributes.
        unsafe { result::set_matmul_pref_attribute(self.0, which, from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// The largest power of two that divides an address, [`ALIGNMENT`] at most.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(ALIGNMENT.trailing_zeros())
}

fn told<T>(action: &str, answer: Result<T, CublasError>) -> Result<T, CudaError> {
    answer.map_err(|error| failed(action, error))
}

fn failed(action: &str, CublasError(status): CublasError) -> CudaError {
    let remedy = match status {
        sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            "free its memory (`nvidia-smi` shows who holds it), or ask for a smaller batch or context"
        }
        _ => "have the products made in tiles, which need no library",
    };
    CudaError::Call { action: action.to_owned(), cause: format!("{status:?}"), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Search;
    use crate::cuda::library::tests::search_of_this_machine;

    /// D = op(A) B + beta D by the library's own definition, over columns.
    fn library(terms: &Terms, a: &[f64], b: &[f64], d: &mut [f64]) {
        let [of_a, of_b, of_d] = terms.matrices;
        let at = |of: Matrix, row: u64, column: u64| (column * of.rows + row) as usize;
        assert_eq!((of_a.rows, of_a.columns, of_b.columns), (of_b.rows, of_d.rows, of_d.columns));
        for row in 0..of_d.rows {
            for column in 0..of_d.columns {
                let sum: f64 = (0..of_a.rows).map(|k| a[at(of_a, k, row)] * b[at(of_b, k, column)]).sum();
                let to = &mut d[at(of_d, row, column)];
                *to = sum + f64::from(terms.beta) * *to;
            }
        }
    }

    #[test]
    fn what_the_library_is_told_is_the_product_of_rows_and_weights() {
        let (rows, inputs, outputs) = (3, 4, 5);
        let x: Vec<f64> = (0..rows * inputs).map(|i| (i * i % 7) as f64).collect();
        let w: Vec<f64> = (0..outputs * inputs).map(|i| (i * i % 11) as f64 - 4.0).collect();
        for operation in [Operation::LibraryProduct, Operation::LibraryGelu, Operation::LibraryResidual] {
            let sizes = [rows, inputs, outputs].map(|n| n as u64);
            let terms = Terms::new(operation, Weights::Bf16, sizes);
            let before: Vec<f64> = (0..rows * outputs).map(|i| i as f64).collect();
            let mut y = before.clone();
            library(&terms, &w, &x, &mut y);
            for row in 0..rows {
                for output in 0..outputs {
                    let dot: f64 = (0..inputs).map(|k| x[row * inputs + k] * w[output * inputs + k]).sum();
                    let at = row * outputs + output;
                    let kept = if operation == Operation::LibraryResidual { before[at] } else { 0.0 };
                    assert_eq!(y[at], dot + kept, "{operation:?}");
                }
            }
            let kept = terms.matrices.map(|matrix| matrix.number);
            let result = if operation == Operation::LibraryGelu { Weights::Bf16 } else { Weights::F32 };
            assert_eq!(kept, [Weights::Bf16, Weights::Bf16, result]);
        }
    }

    #[test]
    fn alignment_is_what_an_address_has() {
        assert_eq!([4096, 256, 0, 16, 48, 4 + 256, 1].map(alignment), [256, 256, 256, 16, 16, 4, 1]);
    }

    /// Descriptors are made on the host, so the library, where it is, takes or refuses them without a GPU.
    #[test]
    fn where_the_library_is_it_takes_every_descriptor() {
        let libraries = Libraries::open(&search_of_this_machine(), &[Library::CublasLt]);
        if let Err(absent) = libraries.place(Library::CublasLt) {
            eprintln!("SKIPPED where_the_library_is_it_takes_every_descriptor: {absent}");
            return;
        }
        for weights in Weights::ALL {
            for operation in [Operation::LibraryProduct, Operation::LibraryGelu, Operation::LibraryResidual] {
                let terms = Terms::new(operation, weights, [1024, 768, 3072]);
                Description::new(terms.epilogue, Some(4096)).unwrap();
                for matrix in terms.matrices {
                    Layout::new(matrix).unwrap();
                }
            }
        }
        Preference::new([4096, 16, 256]).unwrap();
    }

    #[test]
    fn without_the_library_its_absence_is_told_with_a_remedy() {
        let libraries = Libraries::open(&Search::only([]), &[Library::CublasLt]);
        let said = libraries.place(Library::CublasLt).unwrap_err().to_string();
        assert!(said.contains("cuBLASLt") && said.contains("nvidia-cublas"), "{said}");
        let CudaError::Call { action, cause, remedy } =
            failed("multiply", CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED))
        else {
            panic!("another error")
        };
        assert_eq!((action.as_str(), cause.as_str()), ("multiply", "CUBLAS_STATUS_NOT_SUPPORTED"));
        assert!(remedy.contains("tiles"));
    }
}
