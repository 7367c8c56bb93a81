//! LibTorch's fused attention on CUDA, whose forward pass `tch` does not expose.

use std::ffi::{CStr, c_char, c_int};

use tch::{TchError, Tensor};

use super::kernels::{At, read, written};

unsafe extern "C" {
    fn fedreplay_flash_attend(
        q: *const At,
        k: *const At,
        v: *const At,
        bounds: *const At,
        rows: i64,
        older: i64,
        out: *mut At,
        sums: *mut At,
        message: *mut c_char,
        size: usize,
    ) -> c_int;
}

/// Returns the causal attention of one sequence, `[rows, heads, width]`, and the logarithms of the softmax's denominators.
///
/// q, k and v are `[rows, heads, width]` in half precision on a CUDA device, and k and v may have fewer heads. `bounds` is
/// 0 and `rows` in int32 on that device. `older` limits the keys that a query sees before its own.
///
/// # Errors
/// If LibTorch refuses, as it does on another device.
pub fn attend(
    [q, k, v]: [&Tensor; 3],
    bounds: &Tensor,
    rows: i64,
    older: Option<i64>,
) -> Result<(Tensor, Tensor), TchError> {
    let out = Tensor::new();
    let sums = Tensor::new();
    let mut message = [0 as c_char; 1024];
    // SAFETY: every pointer is to a live tensor; `out` and `sums` are this function's own, and are set to new tensors. The
    // shim catches every exception, and writes at most `message.len()` bytes of its text, which it ends with NUL. LibTorch
    // checks shapes, types and devices.
    let (failed, text) = unsafe {
        let failed = fedreplay_flash_attend(
            read(q),
            read(k),
            read(v),
            read(bounds),
            rows,
            older.unwrap_or(-1),
            written(&out),
            written(&sums),
            message.as_mut_ptr(),
            message.len(),
        );
        (failed != 0, CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned())
    };
    if failed { Err(TchError::Torch(text)) } else { Ok((out, sums)) }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// On a CPU that is all that can be tested: the call reaches LibTorch, and what it says comes back as an error.
    #[test]
    fn another_device_is_an_error_with_the_reason() {
        let q = Tensor::zeros([4, 2, 8], (Kind::BFloat16, Device::Cpu));
        let bounds = Tensor::from_slice(&[0i32, 4]);
        let error = attend([&q, &q, &q], &bounds, 4, None).unwrap_err().to_string();
        assert!(error.contains("_flash_attention_forward"), "{error}");
    }
}
