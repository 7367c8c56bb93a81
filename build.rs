//! Compiles the C++ shim against the same LibTorch headers that `torch-sys` found, and bakes its library folder in.
//!
//! `libtorch_cuda.so` is deliberately not linked: it is loaded at start where it exists (`training::init_process`), so
//! that one binary serves machines with and without a GPU.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{env, fs};

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
        // Without it `at::parallel_for` is a plain loop. The threads are LibTorch's own: both link one libgomp.
        .flag("-fopenmp")
        .file("src/training/native/memory.cpp")
        .file("src/training/native/shim.cpp")
        .compile("fedreplay_shim");
    // The shim calls the kernels, so they must follow it in the linker's order.
    println!("cargo:rustc-link-lib=static=fedreplay_kernels");
    note_libraries(&library);
    println!("cargo:rustc-link-search=native={}", library.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
}

/// Writes down which LibTorch is linked, so that runs can name it by hash without reading half a gigabyte at each start.
fn note_libraries(folder: &Path) {
    let mut lines = String::new();
    for name in ["libtorch_cpu.so", "libc10.so"] {
        let path = folder.join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let (Ok(data), Ok(file)) = (fs::metadata(&path), fs::File::open(&path)) else { continue };
        let modified = data.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let mut hasher = blake3::Hasher::new();
        if let (Some(modified), Ok(_)) = (modified, hasher.update_reader(file)) {
            lines += &format!("{name} {} {} {}\n", data.len(), modified.as_nanos(), hasher.finalize().to_hex());
        }
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("Cargo says where"));
    fs::write(out.join("libtorch.txt"), lines).expect("Cargo's folder can be written to");
}
