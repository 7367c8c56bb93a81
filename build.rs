//! Compiles the C++ shim against the same LibTorch headers that `torch-sys` found, and bakes its library folder in.
//!
//! `libtorch_cuda.so` is deliberately not linked: it is loaded at start where it exists (`training::init_process`), so
//! that one binary serves machines with and without a GPU.

use std::env;
use std::path::PathBuf;

fn main() {
    let library = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a direct dependency"));
    let include = library.parent().expect("LibTorch's lib folder has a parent").join("include");
    println!("cargo:rerun-if-changed=src/training/native");
    // These files alone may use AVX2: they are called only where the processor has it.
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .std("c++17")
        .opt_level(3)
        .flag("-mavx2")
        .flag("-mfma")
        .flag("-ffp-contract=off")
        .file("src/training/native/kernels.cpp")
        .file("src/training/native/gemm.cpp")
        .file("src/training/native/attention.cpp")
        .file("src/training/native/decode.cpp")
        .compile("fedreplay_kernels");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .opt_level(2)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("src/training/native/shim.cpp")
        .compile("fedreplay_shim");
    // The shim calls the kernels, so they must follow it in the linker's order.
    println!("cargo:rustc-link-lib=static=fedreplay_kernels");
    println!("cargo:rustc-link-search=native={}", library.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
}
