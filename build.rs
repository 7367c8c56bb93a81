//! Compiles the C++ shim against the same LibTorch headers that `torch-sys` found, and bakes its library folder in.
//!
//! `libtorch_cuda.so` is deliberately not linked: it is loaded at start where it exists (`training::init_process`), so
//! that one binary serves machines with and without a GPU.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{env, fs};

fn main() {
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        // There are no headers to compile against and no library to name.
        return write_note("");
    }
    let library = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a direct dependency"));
    let include = library.parent().expect("LibTorch's lib folder has a parent").join("include");
    println!("cargo:rerun-if-changed=src/training/kernels/native");
    // These files alone may use AVX2, AVX512F and AVX512-BF16: each is called only where the processor has it.
    kernels("fedreplay_kernels", &["kernels", "gemm", "attention", "decode"], &[]);
    kernels("fedreplay_avx512", &["tiles_avx512"], &["-mavx512f"]);
    kernels("fedreplay_avx512bf16", &["tiles_avx512bf16"], &["-mavx512f", "-mavx512bf16"]);
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
        .file("src/training/kernels/native/limits.cpp")
        .file("src/training/kernels/native/memory.cpp")
        .file("src/training/kernels/native/shim.cpp")
        .compile("fedreplay_shim");
    // The shim calls the kernels, and those the tiles, so they must follow in the linker's order.
    for library in ["fedreplay_kernels", "fedreplay_avx512", "fedreplay_avx512bf16"] {
        println!("cargo:rustc-link-lib=static={library}");
    }
    note_libraries(&library);
    println!("cargo:rustc-link-search=native={}", library.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
}

/// Compiles kernels of `src/training/kernels/native` for AVX2 and FMA, and for what `flags` add.
fn kernels(library: &str, files: &[&str], flags: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).std("c++17").opt_level(3);
    // GCC 12 warns of its own headers' undefined vectors.
    build.flag("-mavx2").flag("-mfma").flag("-ffp-contract=off").flag_if_supported("-Wno-maybe-uninitialized");
    for flag in flags {
        build.flag(flag);
    }
    for file in files {
        build.file(format!("src/training/kernels/native/{file}.cpp"));
    }
    build.compile(library);
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
    write_note(&lines);
}

fn write_note(lines: &str) {
    let out = PathBuf::from(env::var("OUT_DIR").expect("Cargo says where"));
    fs::write(out.join("libtorch.txt"), lines).expect("Cargo's folder can be written to");
}
